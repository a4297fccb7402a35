//! `migrate` and `check`, on databases that are empty, half there, the platform's, or not ours to extend.

mod checks;
mod fresh;
mod index_builds;
mod platform;
mod rendered;

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::support::World;

/// Migrations of both databases.
const ALL: usize = 13;

/// A pair of databases in a world's services, apart from the world's own.
struct Pair<'a> {
    world: &'a World,
    name: &'static str,
    database_url: String,
}

impl<'a> Pair<'a> {
    /// Creates neither database.
    fn new(world: &'a World, name: &'static str) -> Self {
        let mut url = world.stack.database_url().unwrap();
        url.truncate(url.rfind('/').unwrap());
        Self {
            world,
            name,
            database_url: format!("{url}/{name}"),
        }
    }

    /// Creates both, empty.
    async fn created(world: &'a World, name: &'static str) -> Self {
        world.pg(&format!("CREATE DATABASE {name}")).await;
        world.ch(&format!("CREATE DATABASE {name}")).await;
        Self::new(world, name)
    }

    fn run(&self, arguments: &[&str]) -> (bool, String) {
        let environment = [
            ("DATABASE_URL", self.database_url.as_str()),
            ("CLICKHOUSE_DB", self.name),
        ];
        self.world.run(arguments, &environment)
    }

    fn migrate(&self) -> String {
        let (ok, text) = self.run(&["migrate"]);
        assert!(ok, "{text}");
        text
    }

    /// Without any project no event could be right.
    async fn with_project(&self) {
        self.pg("INSERT INTO projects (name) VALUES ('test')").await;
    }

    async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.database_url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// PostgreSQL's answer: the columns of each row, joined by a space.
    async fn pg(&self, sql: &str) -> Vec<String> {
        let messages = self.client().await.simple_query(sql).await;
        let messages = messages.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let columns: Vec<&str> = (0..row.len()).map(|n| row.get(n).unwrap_or("NULL")).collect();
                Some(columns.join(" "))
            }
            _ => None,
        });
        rows.collect()
    }

    /// ClickHouse's answer; `@` in the statement stands for this database, `'@` for its name at a text's beginning.
    async fn ch(&self, sql: &str) -> String {
        let as_text = sql.replace("'@", &format!("'{}", self.name));
        self.world
            .ch(&as_text.replace('@', &format!("`{}`", self.name)))
            .await
    }

    async fn tables(&self) -> [Vec<String>; 2] {
        let in_pg = self
            .pg("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
            .await;
        let in_ch = self
            .ch("SELECT name FROM system.tables WHERE database = '@' ORDER BY name")
            .await;
        [in_pg, in_ch.lines().map(str::to_owned).collect()]
    }
}

fn count(text: &str, what: &str) -> usize {
    text.matches(what).count()
}
