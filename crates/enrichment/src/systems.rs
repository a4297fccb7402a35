//! Which words of a user agent name its operating system. The first match decides: a console, a television or a phone also
//! names the system that its own is built on.

use std::borrow::Cow;

use crate::token::{after, any, number_after, rest_after};

/// The operating system and its version.
pub(crate) fn system(text: &str) -> Option<(Cow<'static, str>, Cow<'_, str>)> {
    let named =
        |(name, version): (&'static str, &str)| (Cow::Borrowed(name), version.replace('_', ".").into());
    console(text)
        .or_else(|| windows(text))
        .or_else(|| apple_mobile(text))
        .map(named)
        .or_else(|| chromecast(text))
        .or_else(|| phone_or_television(text).or_else(|| desktop(text)).map(named))
}

fn console(text: &str) -> Option<(&'static str, &str)> {
    if text.contains("; Xbox") {
        let model = rest_after(text, "Xbox; Xbox ").and_then(|rest| rest.split([')', ';']).next());
        return Some(("Xbox", model.unwrap_or_default()));
    }
    ["PlayStation", "PLAYSTATION", "Nintendo"]
        .into_iter()
        .find(|name| text.contains(name))
        .map(|name| (name, after(text, &format!("{name} ")).unwrap_or_default()))
}

fn windows(text: &str) -> Option<(&'static str, &str)> {
    if let Some(version) =
        number_after(text, "Windows Phone ").or_else(|| number_after(text, "Windows Phone OS "))
    {
        return Some(("Windows Phone", version));
    }
    if let Some(kernel) = after(text, "Windows NT ") {
        let sold_as = match kernel {
            "5.0" => "2000",
            "5.1" | "5.2" => "XP",
            "6.0" => "Vista",
            "6.1" => "7",
            "6.2" => "8",
            "6.3" => "8.1",
            "10.0" => "10",
            other => other,
        };
        return Some(("Windows", sold_as));
    }
    let old = ["95", "98"]
        .into_iter()
        .find(|year| any(text, &[&format!("Win{year}"), &format!("Windows {year}")]));
    match old {
        Some(year) => Some(("Windows", year)),
        None => text.contains("Windows").then_some(("Windows", "")),
    }
}

fn apple_mobile(text: &str) -> Option<(&'static str, &str)> {
    if let Some(version) = after(text, "Watch OS,") {
        return Some(("watchOS", version));
    }
    if any(text, &["iPhone", "iPad", "iPod"]) {
        let written = number_after(text, "CPU iPhone OS ")
            .or_else(|| number_after(text, "CPU OS "))
            .or_else(|| number_after(text, "iOS "));
        return Some(("iOS", thawed(written.unwrap_or_default(), text)));
    }
    let app = text.contains("CFNetwork/") && text.contains("Darwin/");
    // Opera Mini that does not name its phone.
    let opera_mini = text.contains("Opera Mini/") && !any(text, &["Android", "Linux", "Series"]);
    (app || opera_mini).then_some(("iOS", ""))
}

/// Since iOS 26 browsers keep naming version 18 of the system; only Safari's own version is that of the system.
fn thawed<'a>(written: &'a str, text: &'a str) -> &'a str {
    let major = |version: &str| {
        version
            .split(['.', '_'])
            .next()
            .and_then(|first| first.parse::<u32>().ok())
    };
    let safari = after(text, "Version/").filter(|version| major(version) >= Some(26));
    match safari {
        Some(version) if major(written) == Some(18) => version,
        _ => written,
    }
}

fn chromecast(text: &str) -> Option<(Cow<'static, str>, Cow<'_, str>)> {
    let version = after(text, "CrKey/")?;
    let (kind, version) = if text.contains("SmartSpeaker") {
        ("SmartSpeaker", version)
    } else if text.contains("Fuchsia") {
        ("Fuchsia", version)
    } else if let Some(version) = after(text, "Android ") {
        ("Android", version)
    } else {
        ("Linux", version)
    };
    Some((format!("Chromecast {kind}").into(), version.into()))
}

fn phone_or_television(text: &str) -> Option<(&'static str, &str)> {
    for (token, name) in [
        ("OpenHarmony ", "OpenHarmony"),
        ("HarmonyOS ", "HarmonyOS"),
        ("Tizen ", "Tizen"),
        ("Tizen/", "Tizen"),
        ("KAIOS/", "KAIOS"),
        ("webOS/", "webOS"),
        ("SymbianOS/", "Symbian"),
    ] {
        if let Some(version) = number_after(text, token) {
            return Some((name, version));
        }
    }
    if any(text, &["Web0S", "webOS"]) {
        return Some(("webOS", web_os(text)));
    }
    if text.contains("BB10") {
        return Some(("BlackBerry", "10"));
    }
    if let Some(model) = rest_after(text, "BlackBerry") {
        let version = model.split('/').nth(1).and_then(|rest| rest.split(' ').next());
        return Some(("BlackBerry", version.unwrap_or_default()));
    }
    for name in ["HarmonyOS", "Series40", "Maemo"] {
        if text.contains(name) {
            return Some((name, ""));
        }
    }
    if text.contains("Android") {
        return Some(("Android", number_after(text, "Android ").unwrap_or_default()));
    }
    let firefox_os = any(text, &["(Mobile;", "(Tablet;"]) && text.contains("Gecko/");
    firefox_os.then(|| ("Firefox OS", after(text, "rv:").unwrap_or_default()))
}

/// The version of LG's webOS. It is not named, but each version has its own Chrome.
fn web_os(text: &str) -> &'static str {
    let chrome = after(text, "Chrome/").and_then(|version| version.split('.').next());
    match chrome {
        Some("38") => "3",
        Some("53") => "4",
        Some("68") => "5",
        Some("79") => "6",
        Some("87") => "22",
        Some("94") => "23",
        Some("108") => "24",
        Some("120") => "25",
        None if text.contains("Web0S") => "2",
        _ => "",
    }
}

fn desktop(text: &str) -> Option<(&'static str, &str)> {
    if let Some(machine) = rest_after(text, "CrOS ") {
        let version = machine.split([' ', ')']).nth(1);
        return Some(("Chrome OS", version.unwrap_or_default()));
    }
    if any(text, &["Macintosh", "Mac OS X", "Mac_PowerPC"]) {
        return Some(("macOS", number_after(text, "Mac OS X ").unwrap_or_default()));
    }
    for name in [
        "Ubuntu",
        "Fedora",
        "Debian",
        "CentOS",
        "Arch",
        "Mint",
        "SUSE",
        "Gentoo",
        "Mageia",
        "Slackware",
    ] {
        if text.contains(name) && text.contains("Linux") {
            return Some((name, number_after(text, &format!("{name}/")).unwrap_or_default()));
        }
    }
    for name in ["FreeBSD", "OpenBSD", "NetBSD", "DragonFly"] {
        if text.contains(name) {
            return Some((name, number_after(text, &format!("{name} ")).unwrap_or_default()));
        }
    }
    if text.contains("SunOS") {
        return Some(("Solaris", number_after(text, "SunOS ").unwrap_or_default()));
    }
    // After it comes a kernel version or a machine; the usual machines are no version.
    let version = after(text, "Linux ").filter(|word| !matches!(*word, "x86_64" | "amd64"));
    text.contains("Linux")
        .then(|| ("Linux", version.unwrap_or_default()))
}
