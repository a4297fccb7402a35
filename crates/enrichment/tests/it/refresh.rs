//! Where databases come from: a file that somebody replaces, and a server that is slow, wrong or away.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use enrichment::geo::GeoIp;
use enrichment::geo_source::GeoSettings;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support::{put, with_country};

/// What the server does with a connection.
#[derive(Clone)]
enum Answer {
    /// 200 with this body.
    Good(Vec<u8>),
    /// 500.
    Failure,
    /// 200 with a page.
    Page,
    /// 200 with half of the body it announced.
    HalfOf(Vec<u8>),
    /// Nothing, ever.
    Silence,
    /// 200 and a body without end.
    Endless,
}

/// Gives the n-th request the n-th answer, and every later one the last.
struct Server {
    url: String,
    requests: Arc<AtomicUsize>,
}

impl Server {
    fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/GeoLite2-Country.mmdb", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let answer = answers[number.min(answers.len() - 1)].clone();
                std::thread::spawn(move || {
                    let _the_client_may_have_gone = give(&answer, &mut stream.unwrap());
                });
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn give(answer: &Answer, stream: &mut TcpStream) -> std::io::Result<()> {
    let mut request = [0; 4096];
    let _length = stream.read(&mut request)?;
    let head = |stream: &mut TcpStream, length: usize| {
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )
    };
    match answer {
        Answer::Good(body) => {
            head(stream, body.len())?;
            stream.write_all(body)
        }
        Answer::Failure => {
            stream.write_all(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
        Answer::Page => {
            head(stream, 18)?;
            stream.write_all(b"<html>sorry</html>")
        }
        Answer::HalfOf(body) => {
            head(stream, body.len())?;
            stream.write_all(&body[..body.len() / 2])
        }
        Answer::Silence => {
            std::thread::sleep(Duration::from_secs(30));
            Ok(())
        }
        Answer::Endless => {
            head(stream, usize::MAX / 2)?;
            loop {
                stream.write_all(&[0; 4096])?;
            }
        }
    }
}

struct Scene {
    geo: GeoIp,
    folder: TempDir,
    stop: CancellationToken,
}

impl Scene {
    fn start(prepare: impl FnOnce(&Path, &mut GeoSettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = GeoSettings {
            cache: folder.path().join("cache.mmdb"),
            check_interval: Duration::from_millis(50),
            timeout: Duration::from_millis(700),
            pause: Duration::from_millis(10),
            max_bytes: 1 << 20,
            ..GeoSettings::default()
        };
        prepare(folder.path(), &mut settings);
        let stop = CancellationToken::new();
        let (geo, _task) = settings.start(stop.clone());
        Self { geo, folder, stop }
    }

    fn downloading(server: &Server) -> Self {
        Self::start(|_, settings| settings.url = server.url.parse().ok())
    }

    fn country(&self) -> String {
        self.geo
            .with_place("81.2.69.142", |place| place.country.to_owned())
    }

    async fn becomes(&self, country: &str) {
        self.wait_for(&format!("country {country:?}"), || self.country() == country)
            .await;
    }

    async fn wait_for(&self, what: &str, holds: impl Fn() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "not within 20 s: {what}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn a_file_is_used_and_used_anew_when_it_is_replaced_but_not_when_it_is_damaged() {
    let scene = Scene::start(|folder, settings| {
        let file = folder.join("given.mmdb");
        put(&file, &with_country("GB"));
        settings.database = Some(file);
    });
    scene.becomes("GB").await;
    let file = scene.folder.path().join("given.mmdb");
    put(&file, b"damaged");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(scene.country(), "GB", "the old one stays");
    put(&file, &with_country("CH"));
    scene.becomes("CH").await;
}

#[tokio::test]
async fn a_file_that_comes_later_is_taken_when_it_comes() {
    let scene = Scene::start(|folder, settings| settings.database = Some(folder.join("given.mmdb")));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(scene.country(), "");
    put(&scene.folder.path().join("given.mmdb"), &with_country("GB"));
    scene.becomes("GB").await;
}

#[tokio::test]
async fn a_download_survives_failures_and_is_kept() {
    let server = Server::start(vec![
        Answer::Failure,
        Answer::Page,
        Answer::Good(with_country("GB")),
    ]);
    let scene = Scene::downloading(&server);
    scene.becomes("GB").await;
    assert_eq!(server.requests(), 3);
    assert_eq!(scene.files(), ["cache.mmdb"]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.requests(), 3, "a fresh one is not fetched again");
}

#[tokio::test]
async fn a_cut_a_silent_and_an_endless_download_leave_nothing_behind() {
    for bad in [
        Answer::HalfOf(with_country("GB")),
        Answer::Silence,
        Answer::Endless,
    ] {
        let server = Server::start(vec![bad]);
        let scene = Scene::downloading(&server);
        scene.wait_for("three attempts", || server.requests() >= 3).await;
        scene
            .wait_for("no file is left", || scene.files().is_empty())
            .await;
        assert_eq!(scene.country(), "");
    }
}

#[tokio::test]
async fn a_cached_one_is_used_at_once_and_a_stale_one_until_its_successor_is_there() {
    let aged = |days: u64| {
        move |folder: &Path, settings: &mut GeoSettings| {
            let file = folder.join("cache.mmdb");
            put(&file, &with_country("GB"));
            let at = SystemTime::now() - Duration::from_hours(24 * days);
            std::fs::File::options()
                .write(true)
                .open(&file)
                .unwrap()
                .set_modified(at)
                .unwrap();
            settings.max_age = Duration::from_hours(24 * 30);
        }
    };
    let server = Server::start(vec![Answer::Good(with_country("CH"))]);
    let fresh = Scene::start(|folder, settings| {
        aged(29)(folder, settings);
        settings.url = server.url.parse().ok();
    });
    fresh.becomes("GB").await;
    assert_eq!(server.requests(), 0);

    let stale = Scene::start(|folder, settings| {
        aged(31)(folder, settings);
        settings.url = server.url.parse().ok();
    });
    stale.becomes("CH").await;

    let away = Server::start(vec![Answer::Failure]);
    let kept = Scene::start(|folder, settings| {
        aged(31)(folder, settings);
        settings.url = away.url.parse().ok();
    });
    kept.becomes("GB").await;
    kept.wait_for("three attempts", || away.requests() >= 3).await;
    assert_eq!(kept.country(), "GB");
}

#[tokio::test]
async fn a_damaged_cache_is_fetched_again() {
    let server = Server::start(vec![Answer::Good(with_country("CH"))]);
    let scene = Scene::start(|folder, settings| {
        put(&folder.join("cache.mmdb"), b"damaged");
        settings.url = server.url.parse().ok();
    });
    scene.becomes("CH").await;
}

#[tokio::test]
async fn a_link_where_a_download_is_to_be_put_is_not_followed() {
    let server = Server::start(vec![Answer::Good(with_country("GB"))]);
    let scene = Scene::start(|folder, settings| {
        let precious = folder.join("precious");
        put(&precious, b"theirs");
        let draft = settings
            .cache
            .with_extension(format!("download-{}", std::process::id()));
        for link in [&draft, &settings.cache] {
            std::os::unix::fs::symlink(&precious, link).unwrap();
        }
        settings.url = server.url.parse().ok();
    });
    scene.becomes("GB").await;
    assert_eq!(
        std::fs::read(scene.folder.path().join("precious")).unwrap(),
        b"theirs"
    );
    assert_eq!(scene.files(), ["cache.mmdb", "precious"]);
    let kept = scene.folder.path().join("cache.mmdb").symlink_metadata().unwrap();
    assert!(kept.is_file(), "no link any more");
}
