//! A user of Redis with a password in a file, and the end of its connections.

use crate::support::{World, ask};

const RIGHTS: [&str; 3] = ["~*", "&*", "+@all"];

/// A user of Redis whose password stands in a file.
pub(super) struct User {
    pub(super) url: String,
    pub(super) file: String,
}

impl User {
    pub(super) async fn create(world: &World, password: &str) -> Self {
        set_user(world, &["on", &format!(">{password}")]).await;
        let () = ask(world, "ACL", &[&["SETUSER", "worker"][..], &RIGHTS].concat()).await;
        let file = world.path("password").to_str().unwrap().to_owned();
        std::fs::write(&file, password).unwrap();
        let url = world.stack.redis_url().unwrap();
        let url = url.replace("redis://", "redis://worker:@");
        Self { url, file }
    }

    pub(super) fn environment<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let own = [
            ("REDIS_URL", self.url.as_str()),
            ("REDIS_PASSWORD_FILE", self.file.as_str()),
        ];
        [&own[..], more].concat()
    }
}

pub(super) async fn set_user(world: &World, rules: &[&str]) {
    let () = ask(world, "ACL", &[&["SETUSER", "worker"][..], rules].concat()).await;
}

pub(super) async fn cut(world: &World) -> u64 {
    ask(world, "CLIENT", &["KILL", "USER", "worker"]).await
}

/// Ends the connections of this name, and no others.
pub(super) async fn cut_named(world: &World, name: &str) -> usize {
    let list: String = ask(world, "CLIENT", &["LIST"]).await;
    let field = format!("name={name}");
    let named = list
        .lines()
        .filter(|line| line.split(' ').any(|word| word == field));
    let ids: Vec<&str> = named
        .map(|line| line.split(' ').next().unwrap().strip_prefix("id=").unwrap())
        .collect();
    for id in &ids {
        let _cut: u64 = ask(world, "CLIENT", &["KILL", "ID", id]).await;
    }
    ids.len()
}
