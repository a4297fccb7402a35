//! Whether instances live, as their connections tell: the one by which each keeps its name is used every second, and goes
//! with its process. For `status`; what takes a name over asks for itself (`name.rs`).

use std::collections::HashMap;

use crate::runtime::instances::Sign;
use crate::stores::Redis;

use super::name::key;

const DURING: &str = "looking whether instances are connected";

/// The process that has a name, and its connection.
struct Noted<'a> {
    name: &'a str,
    token: String,
    id: u64,
}

/// What is known of the instances of these names. Where Redis does not say, that is nothing: their reports tell, later.
pub(crate) async fn signs<'a>(redis: &Redis, names: &[&'a str]) -> HashMap<&'a str, Sign> {
    let keys: Vec<String> = names.iter().map(|name| key(name)).collect();
    if keys.is_empty() {
        return HashMap::new();
    }
    let Ok(texts) = redis.texts(DURING, &keys).await else {
        return HashMap::new();
    };
    let noted = names.iter().zip(texts);
    let noted = noted.filter_map(|(name, text)| parsed(name, &String::from_utf8(text?).ok()?));
    let noted: Vec<Noted<'a>> = noted.collect();
    if noted.is_empty() {
        return HashMap::new();
    }
    let mut list = redis::cmd("CLIENT");
    list.arg("LIST").arg("ID");
    for process in &noted {
        list.arg(process.id);
    }
    // In a cluster a name, and so its connection, may be on any of the nodes.
    let Ok(clients) = redis.ask_every_server::<String>(DURING, &list).await else {
        return HashMap::new();
    };
    let clients: Vec<&str> = clients.iter().flat_map(|(_, text)| text.lines()).collect();
    let signs = noted
        .iter()
        .map(|process| (process.name, sign(&process.token, &clients)));
    signs.collect()
}

/// Nothing where the process has let go of the name, or may not ask which connection it has.
fn parsed<'a>(name: &'a str, text: &str) -> Option<Noted<'a>> {
    let (token, id) = text.split_once(' ')?;
    let id = id.parse().ok().filter(|id| *id > 0)?;
    Some(Noted {
        name,
        token: token.to_owned(),
        id,
    })
}

fn sign(token: &str, clients: &[&str]) -> Sign {
    let field = |line: &str, name: &str| {
        let mut fields = line.split(' ').filter_map(|field| field.split_once('='));
        let found = fields.find(|(of, _)| *of == name);
        found.map(|(_, value)| value.to_owned())
    };
    let ours = clients
        .iter()
        .find(|line| field(line, "name").is_some_and(|name| name == token));
    match ours {
        None => Sign::Gone,
        Some(line) => field(line, "idle")
            .and_then(|idle| idle.parse().ok())
            .map_or(Sign::Unknown, Sign::Seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_known_by_the_name_that_its_process_gave_it() {
        let clients = [
            "id=7 addr=127.0.0.1:1 name=abc age=9 idle=3 flags=N",
            "id=8 name= idle=0",
        ];
        assert_eq!(sign("abc", &clients), Sign::Seen(3));
        assert_eq!(sign("ab", &clients), Sign::Gone);
        assert_eq!(sign("abc", &["id=7 name=abc"]), Sign::Unknown);
    }

    #[test]
    fn who_has_let_go_or_may_not_ask_says_nothing() {
        assert!(
            parsed("a", "abc -").is_none() && parsed("a", "abc 0").is_none() && parsed("a", "abc").is_none()
        );
        assert!(parsed("a", "abc 7").is_some_and(|noted| noted.id == 7 && noted.token == "abc"));
    }
}
