//! The two forms that a connection string has, taken apart into libpq's parameters: a URL, and `name=value` with spaces
//! between them.

use std::iter::Peekable;
use std::str::{Chars, FromStr};

use percent_encoding::percent_decode_str;
use tokio_postgres::config::Host;

use super::given::{Fault, Parameters};
use crate::config::read::has_stray_at;

const FORMS: &str =
    "a URL beginning with postgres:// or postgresql://, or libpq's `host=… port=… dbname=… user=…`";
const ENCODED: &str =
    "user and password percent-encoded: `/` as %2F, `?` as %3F, `#` as %23, `@` as %40, `%` as %25";

/// Takes a text apart.
pub(super) fn parameters(text: &str) -> Result<Parameters, Fault> {
    match text.split_once("://") {
        Some(("postgres" | "postgresql", rest)) => of_url(rest),
        // What stands before may be a piece of a password.
        Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+') => {
            Err(Fault::of(format!("{scheme}://(hidden)"), FORMS))
        }
        _ if text.contains('=') => of_words(text),
        _ => Err(Fault::hidden(FORMS)),
    }
}

fn of_url(rest: &str) -> Result<Parameters, Fault> {
    if has_stray_at(rest) {
        return Err(Fault::hidden(ENCODED));
    }
    let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut found = of_base(base)?;
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let Some((name, value)) = parameter.split_once('=') else {
            return Err(Fault::hidden(
                "`name=value` for each parameter behind the `?`, with `&` between them",
            ));
        };
        let (name, value) = (decoded(name)?, decoded(value)?);
        match name.as_str() {
            // How other clients write it; libpq takes it as well.
            "ssl" if value == "true" => found.insert("sslmode".into(), "require".into()),
            _ => found.insert(name, value),
        };
    }
    Ok(found)
}

/// Users, servers and database: what stands before the parameters.
fn of_base(base: &str) -> Result<Parameters, Fault> {
    let (authority, path) = base.split_at(base.find('/').unwrap_or(base.len()));
    // No host has an `@`, so it is the last one that ends the password.
    let encoded = match authority.rsplit_once('@') {
        Some((user, servers)) => format!("postgresql://{}@{servers}{path}", user.replace('@', "%40")),
        None => format!("postgresql://{base}"),
    };
    let unreadable = "a URL of the form postgresql://user:password@host:port,host:port/database?name=value";
    let read = tokio_postgres::Config::from_str(&encoded).map_err(|_| Fault::hidden(unreadable))?;
    let mut found = Parameters::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            found.insert(name.to_owned(), value);
        }
    };
    let hosts = read.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    add("host", Some(joined(hosts)));
    add("port", Some(joined(read.get_ports().iter().map(u16::to_string))));
    add("user", read.get_user().map(str::to_owned));
    add("dbname", read.get_dbname().map(str::to_owned));
    if let Some(password) = read.get_password() {
        let password = String::from_utf8(password.to_vec()).map_err(|_| Fault::hidden(ENCODED))?;
        add("password", Some(password));
    }
    Ok(found)
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}

fn decoded(text: &str) -> Result<String, Fault> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.contains('\0') => Ok(text.into_owned()),
        _ => Err(Fault::hidden("percent-encoded text in UTF-8")),
    }
}

fn of_words(text: &str) -> Result<Parameters, Fault> {
    let wrong = || {
        Fault::hidden(
            "`name=value` with spaces between them: a value with a space stands in single quotes, `'` and `\\` have a \
             `\\` before them",
        )
    };
    let mut found = Parameters::new();
    let mut rest = text.chars().peekable();
    loop {
        skip_spaces(&mut rest);
        if rest.peek().is_none() {
            return Ok(found);
        }
        let name = taken_while(&mut rest, |c| !c.is_whitespace() && c != '=');
        skip_spaces(&mut rest);
        if name.is_empty() || rest.next() != Some('=') {
            return Err(wrong());
        }
        skip_spaces(&mut rest);
        let value = value(&mut rest).ok_or_else(wrong)?;
        found.insert(name, value);
    }
}

/// A value, without its quotes; nothing when they are not closed.
fn value(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let is_quoted = rest.next_if_eq(&'\'').is_some();
    let mut value = String::new();
    loop {
        match rest.next() {
            None if is_quoted => return None,
            None => return Some(value),
            Some('\'') if is_quoted => return Some(value),
            Some(c) if c.is_whitespace() && !is_quoted => return Some(value),
            Some('\\') => value.extend(rest.next()),
            Some(c) => value.push(c),
        }
    }
}

fn skip_spaces(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|c| c.is_whitespace()).is_some() {}
}

fn taken_while(rest: &mut Peekable<Chars<'_>>, wanted: impl Fn(char) -> bool) -> String {
    let mut taken = String::new();
    while let Some(c) = rest.next_if(|c| wanted(*c)) {
        taken.push(c);
    }
    taken
}
