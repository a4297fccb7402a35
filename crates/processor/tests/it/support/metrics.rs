//! The numbers of a worker, as its endpoint gives them.

/// An address that was free a moment ago.
pub(crate) fn address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// What the endpoint says; nothing before it answers.
pub(crate) async fn scrape(address: &str) -> String {
    match reqwest::get(format!("http://{address}/metrics")).await {
        Ok(response) => response.text().await.unwrap(),
        Err(_) => String::new(),
    }
}

/// A number, by its name and labels.
pub(crate) fn number(text: &str, name: &str) -> Option<f64> {
    let name = format!("qurvo_processor_{name} ");
    let line = text.lines().find(|line| line.starts_with(&name))?;
    line[name.len()..].parse().ok()
}
