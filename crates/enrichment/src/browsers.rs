//! Which token of a user agent names its browser. The first match decides, so specific tokens come before general ones.

use crate::token::{after, any, rest_after, words};

/// Browsers and apps with a token of their own, besides those of the browsers that they are built on.
const OWN_TOKEN: [(&str, &str); 58] = [
    ("OPR/", "Opera"),
    ("OPT/", "Opera Touch"),
    ("OPX/", "Opera GX"),
    ("Opera Mini/", "Opera Mini"),
    ("Opera Mobi/", "Opera Mobi"),
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("Edg/", "Edge"),
    ("Edge/", "Edge"),
    ("YaBrowser/", "Yandex"),
    ("Vivaldi/", "Vivaldi"),
    ("OculusBrowser/", "Oculus Browser"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("UCBrowser/", "UCBrowser"),
    ("UBrowser/", "UCBrowser"),
    ("MiuiBrowser/", "MIUI Browser"),
    ("HuaweiBrowser/", "Huawei Browser"),
    ("VivoBrowser/", "Vivo Browser"),
    ("HeyTapBrowser/", "HeyTap"),
    ("DuckDuckGo/", "DuckDuckGo"),
    ("Ddg/", "DuckDuckGo"),
    ("Ecosia android@", "Ecosia"),
    ("Ecosia ios@", "Ecosia"),
    ("Whale/", "Whale"),
    ("QQBrowser/", "QQBrowser"),
    ("MicroMessenger/", "WeChat"),
    ("Instagram ", "Instagram"),
    ("FBAV/", "Facebook"),
    ("Line/", "Line"),
    ("musical_ly_", "TikTok"),
    ("Snapchat/", "Snapchat"),
    ("Klarna/", "Klarna"),
    ("Silk/", "Silk"),
    ("Tesla/", "Tesla"),
    ("Electron/", "Electron"),
    ("LG Browser/", "LG Browser"),
    ("HeadlessChrome/", "Chrome Headless"),
    ("Brave/", "Brave"),
    ("SeaMonkey/", "SeaMonkey"),
    ("Seamonkey/", "SeaMonkey"),
    ("PaleMoon/", "PaleMoon"),
    ("Waterfox/", "Waterfox"),
    ("Konqueror/", "Konqueror"),
    ("konqueror/", "Konqueror"),
    ("Epiphany/", "Epiphany"),
    ("Falkon/", "Falkon"),
    ("Kindle/", "Kindle"),
    ("Maemo Browser ", "Maemo Browser"),
    ("Links (", "Links"),
    ("Lynx/", "Lynx"),
    ("Focus/", "Firefox Focus"),
    ("Klar/", "Firefox Focus"),
    ("CriOS/", "Mobile Chrome"),
    ("FxiOS/", "Mobile Firefox"),
    ("IEMobile/", "IEMobile"),
    ("MSIE ", "IE"),
    ("Chromium/", "Chromium"),
    ("Iceweasel/", "Iceweasel"),
];

/// Browser and version. A bot that names no browser has none; many name the one that they are built on.
pub(crate) fn browser(text: &str) -> Option<(&'static str, &str)> {
    own_token(text)
        .or_else(|| app(text))
        .or_else(|| classic(text))
        .or_else(|| gecko(text))
        .or_else(|| chrome(text))
        .or_else(|| web_kit(text))
}

/// The first token of the table that begins a word. Goes through the text once, not once per token.
fn own_token(text: &str) -> Option<(&'static str, &str)> {
    let ranks =
        words(text).filter_map(|rest| OWN_TOKEN.iter().position(|(token, _)| rest.starts_with(token)));
    let (token, name) = OWN_TOKEN[ranks.min()?];
    Some((name, after(text, token)?))
}

/// Apps whose version does not follow their name.
fn app(text: &str) -> Option<(&'static str, &str)> {
    if text.contains("BytedanceWebview/") {
        return Some(("TikTok", after(text, "app_version/").unwrap_or_default()));
    }
    if text.contains("Chrome-Lighthouse") {
        return Some(("Lighthouse", ""));
    }
    any(text, &["360SE", "360EE"]).then(|| ("360", after(text, "Chrome/").unwrap_or_default()))
}

/// Browsers with engines that no longer exist.
fn classic(text: &str) -> Option<(&'static str, &str)> {
    if let Some(version) = after(text, "Opera/") {
        return Some(("Opera", after(text, "Version/").unwrap_or(version)));
    }
    text.contains("Trident/")
        .then(|| ("IE", after(text, "rv:").unwrap_or_default()))
}

fn gecko(text: &str) -> Option<(&'static str, &str)> {
    let version = after(text, "Firefox/")?;
    let mobile = any(text, &["Mobile", "Android", "Tablet;"]);
    Some((if mobile { "Mobile Firefox" } else { "Firefox" }, version))
}

fn chrome(text: &str) -> Option<(&'static str, &str)> {
    if let Some(version) = after(text, "GSA/")
        && !text.contains("; wv)")
    {
        return Some(("GSA", version));
    }
    let version = after(text, "Chrome/")?;
    let name = if text.contains("; wv)") {
        "Chrome WebView"
    } else if rest_after(text, "Chrome/").is_some_and(|rest| rest[version.len()..].starts_with(" Mobile")) {
        "Mobile Chrome"
    } else {
        "Chrome"
    };
    Some((name, version))
}

fn web_kit(text: &str) -> Option<(&'static str, &str)> {
    let version = after(text, "Version/");
    let mobile = text.contains("Mobile");
    if !text.contains("Safari/") {
        return Some(("WebKit", after(text, "AppleWebKit/")?));
    }
    let name = match version {
        Some(_) if text.contains("Android") => "Android Browser",
        _ if mobile => "Mobile Safari",
        _ => "Safari",
    };
    // Before version 3, Safari did not name its version.
    Some((name, version.unwrap_or("1")))
}
