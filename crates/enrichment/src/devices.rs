//! Which words of a user agent name the type of its device.

use crate::token::{any, rest_after};

const HEADSETS: [&str; 4] = ["Quest", "OculusBrowser", "Vision Pro", "Pico "];
const CONSOLES: [&str; 4] = ["PlayStation", "PLAYSTATION", "Xbox", "Nintendo"];
const WEARABLES: [&str; 4] = ["Watch", "Wear OS", "Glass", "SM-R"];
const TELEVISIONS: [&str; 12] = [
    "SmartTV",
    "Smart-TV",
    "SMART-TV",
    "AppleTV",
    "Apple TV",
    "GoogleTV",
    "CrKey",
    "BRAVIA",
    "Web0S",
    "Roku/",
    "HbbTV",
    "Android TV",
];
const TABLETS: [&str; 9] = [
    "iPad", "Tablet", "Kindle", "PlayBook", "SM-T", "SM-X", "Nexus 7", "Nexus 9", "Nexus 10",
];
const PHONES: [&str; 11] = [
    "iPhone",
    "iPod",
    "Phone;",
    "Windows Phone",
    "IEMobile",
    "BlackBerry",
    "BB10",
    "Series40",
    "SymbianOS",
    "Maemo",
    "Dalvik/",
];

/// The type of device; empty where the text names none.
pub(crate) fn device(text: &str) -> &'static str {
    // A Macintosh is a computer, even where its agent also says `Mobile`.
    let mac = text.contains("Macintosh");
    if any(text, &HEADSETS) {
        "xr"
    } else if any(text, &CONSOLES) {
        "console"
    } else if any(text, &TELEVISIONS) || amazon(text, "AFT") {
        "smarttv"
    } else if any(text, &WEARABLES) {
        "wearable"
    } else if text.contains("Tesla/") {
        "embedded"
    } else if any(text, &TABLETS) || amazon(text, "KF") {
        "tablet"
    } else if any(text, &PHONES) || (text.contains("Mobile") && !mac) {
        "mobile"
    } else if any(text, &["Android", "HarmonyOS"]) && any(text, &["Safari/", "Gecko/"]) {
        // By convention, agents of such tablets do not say `Mobile`.
        "tablet"
    } else {
        ""
    }
}

/// Whether the text names a model of Amazon's: the prefix and a capital letter.
fn amazon(text: &str, prefix: &str) -> bool {
    let model = rest_after(text, prefix);
    model.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
}
