//! The rules: which token of a user agent names its browser, its system, its device. The first that fits decides, so the
//! particular stand before the general.

/// Browsers named by a token `Name/version`, and the name they are known by.
const BROWSERS: [(&str, &str); 37] = [
    ("OPR/", "Opera"),
    ("OPT/", "Opera Touch"),
    ("Opera Mini/", "Opera Mini"),
    ("OPX/", "Opera GX"),
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("Edg/", "Edge"),
    ("Edge/", "Edge"),
    ("YaBrowser/", "Yandex"),
    ("Vivaldi/", "Vivaldi"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("UCBrowser/", "UCBrowser"),
    ("UBrowser/", "UCBrowser"),
    ("MiuiBrowser/", "MIUI Browser"),
    ("HuaweiBrowser/", "Huawei Browser"),
    ("DuckDuckGo/", "DuckDuckGo"),
    ("Ddg/", "DuckDuckGo"),
    ("Whale/", "Whale"),
    ("QQBrowser/", "QQBrowser"),
    ("MicroMessenger/", "WeChat"),
    ("Instagram ", "Instagram"),
    ("FBAV/", "Facebook"),
    ("Line/", "Line"),
    ("musical_ly_", "TikTok"),
    ("BytedanceWebview/", "TikTok"),
    ("Snapchat/", "Snapchat"),
    ("GSA/", "GSA"),
    ("Silk/", "Silk"),
    ("Electron/", "Electron"),
    ("HeadlessChrome/", "Chrome Headless"),
    ("Brave/", "Brave"),
    ("Seamonkey/", "SeaMonkey"),
    ("PaleMoon/", "PaleMoon"),
    ("Konqueror/", "Konqueror"),
    ("Epiphany/", "Epiphany"),
    ("CriOS/", "Mobile Chrome"),
    ("FxiOS/", "Mobile Firefox"),
];

/// Browser and version.
pub(crate) fn browser(text: &str) -> Option<(String, String)> {
    if is_bot(text) {
        return None;
    }
    for (token, name) in BROWSERS {
        if let Some(version) = after(text, token) {
            return Some((name.into(), version));
        }
    }
    let mobile = text.contains("Mobile");
    let android = text.contains("Android");
    if let Some(version) = after(text, "Firefox/") {
        let name = if mobile || android || text.contains("Tablet;") {
            "Mobile Firefox"
        } else {
            "Firefox"
        };
        return Some((name.into(), version));
    }
    if let Some(version) = after(text, "Chrome/") {
        let name = if android && text.contains("; wv)") {
            "Chrome WebView"
        } else if android && mobile {
            "Mobile Chrome"
        } else {
            "Chrome"
        };
        return Some((name.into(), version));
    }
    if text.contains("Trident/") || text.contains("MSIE ") {
        return Some((
            "IE".into(),
            after(text, "MSIE ")
                .or_else(|| after(text, "rv:"))
                .unwrap_or_default(),
        ));
    }
    if android && let Some(version) = after(text, "Version/") {
        return Some(("Android Browser".into(), version));
    }
    if text.contains("Safari/")
        && let Some(version) = after(text, "Version/")
    {
        let name = if mobile { "Mobile Safari" } else { "Safari" };
        return Some((name.into(), version));
    }
    let apple_web_view = text.contains("AppleWebKit/") && (text.contains("iPhone") || text.contains("iPad"));
    apple_web_view.then(|| ("WebKit".into(), after(text, "AppleWebKit/").unwrap_or_default()))
}

/// Operating system and version.
pub(crate) fn system(text: &str) -> Option<(String, String)> {
    let dotted = |version: String| version.replace('_', ".");
    if let Some(version) = after(text, "Windows Phone ") {
        return Some(("Windows Phone".into(), version.trim_start_matches("OS ").into()));
    }
    if let Some(version) = after(text, "Windows NT ") {
        return Some(("Windows".into(), windows(&version).into()));
    }
    if text.contains("Windows") {
        return Some(("Windows".into(), String::new()));
    }
    let apple_mobile = text.contains("iPhone") || text.contains("iPad") || text.contains("iPod");
    if apple_mobile && text.contains("like Mac OS X") {
        let version = after(text, "CPU iPhone OS ")
            .or_else(|| after(text, "CPU OS "))
            .unwrap_or_default();
        return Some(("iOS".into(), dotted(version)));
    }
    for (token, name) in [
        ("HarmonyOS ", "HarmonyOS"),
        ("Tizen ", "Tizen"),
        ("Tizen/", "Tizen"),
        ("KAIOS/", "KAIOS"),
    ] {
        if let Some(version) = after(text, token) {
            return Some((name.into(), version));
        }
    }
    if text.contains("Web0S") || text.contains("webOS") {
        return Some(("WebOS".into(), String::new()));
    }
    if let Some(version) = after(text, "Android ") {
        return Some(("Android".into(), version));
    }
    if text.contains("Android") {
        return Some(("Android".into(), String::new()));
    }
    if let Some(version) = after(text, "CrOS ") {
        let version = text
            .split("CrOS ")
            .nth(1)
            .and_then(|rest| rest.split(' ').nth(1))
            .map_or(version, |v| v.trim_end_matches(')').into());
        return Some(("Chrome OS".into(), version));
    }
    if let Some(version) = after(text, "Mac OS X ") {
        return Some(("macOS".into(), dotted(version)));
    }
    if text.contains("Macintosh") {
        return Some(("macOS".into(), String::new()));
    }
    for name in ["PlayStation", "Nintendo"] {
        if text.contains(name) {
            return Some((name.into(), String::new()));
        }
    }
    for name in [
        "Ubuntu", "Fedora", "Debian", "CentOS", "Arch", "Mint", "SUSE", "Gentoo",
    ] {
        if let Some(at) = text.find(name)
            && text.contains("Linux")
        {
            return Some((
                name.into(),
                after(&text[at..], &format!("{name}/")).unwrap_or_default(),
            ));
        }
    }
    for name in ["FreeBSD", "OpenBSD", "NetBSD"] {
        if let Some(at) = text.find(name) {
            return Some((
                name.into(),
                after(&text[at..], &format!("{name} ")).unwrap_or_default(),
            ));
        }
    }
    if text.contains("Linux") && !is_bot(text) {
        let version =
            after(text, "Linux ").filter(|version| version.starts_with(|c: char| c.is_ascii_digit()));
        return Some((
            "Linux".into(),
            version.or_else(|| linux_machine(text)).unwrap_or_default(),
        ));
    }
    None
}

/// What stands for a version where Linux gives none: its machine, as in `Linux x86_64`.
fn linux_machine(text: &str) -> Option<String> {
    ["x86_64", "i686", "aarch64", "armv7l"]
        .into_iter()
        .find(|m| text.contains(&format!("Linux {m}")))
        .map(Into::into)
}

/// What a Windows kernel is sold as.
fn windows(kernel: &str) -> &str {
    match kernel {
        "5.1" | "5.2" => "XP",
        "6.0" => "Vista",
        "6.1" => "7",
        "6.2" => "8",
        "6.3" => "8.1",
        "10.0" => "10",
        other => other,
    }
}

/// Type of device; empty where the text names none.
pub(crate) fn device(text: &str) -> &'static str {
    let any = |tokens: &[&str]| tokens.iter().any(|token| text.contains(token));
    if is_bot(text) {
        return "";
    }
    if any(&["Quest", "OculusBrowser", "Vision Pro"]) {
        return "xr";
    }
    if any(&[
        "SmartTV", "Smart-TV", "SMART-TV", "AppleTV", "Apple TV", "GoogleTV", "CrKey", "BRAVIA", "Web0S",
        "Roku", "AFTS", "AFTT", "AFTM", "HbbTV",
    ]) {
        return "smarttv";
    }
    if any(&["PlayStation", "Xbox", "Nintendo"]) {
        return "console";
    }
    if any(&["Watch", "Glass"]) {
        return "wearable";
    }
    if any(&["iPad", "Tablet", "Silk/", "KFAPWI", "Kindle", "SM-T", "SM-X"]) {
        return "tablet";
    }
    if any(&[
        "iPhone",
        "iPod",
        "Mobile",
        "Windows Phone",
        "Opera Mini",
        "IEMobile",
        "BlackBerry",
    ]) {
        return "mobile";
    }
    // Android without the word `Mobile` is a tablet, by its makers' convention.
    if text.contains("Android") { "tablet" } else { "" }
}

/// Bots call themselves so; what browser they pretend to be is not their browser.
fn is_bot(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    [
        "bot/",
        "bot;",
        "bot ",
        "crawler",
        "spider",
        "bingpreview",
        "facebookexternalhit",
    ]
    .iter()
    .any(|word| lower.contains(word))
        || lower.ends_with("bot")
}

/// The version behind a token: digits and letters up to a separator.
fn after(text: &str, token: &str) -> Option<String> {
    let rest = &text[text.find(token)? + token.len()..];
    let end = rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_')))
        .unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}
