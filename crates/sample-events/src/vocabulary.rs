//! The words the samples are made of: browsers, places, names, pages, goods.
//!
//! Addresses lie in well-known public ranges of access providers; people and pages are invented.

/// A device's software, and the screen it usually has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Agent {
    pub(crate) header: &'static str,
    /// Browser, its version, operating system, its version, device type, as an SDK that parses them itself reports.
    pub(crate) parsed: [&'static str; 5],
    pub(crate) screen: (u32, u32),
}

const fn agent(header: &'static str, parsed: [&'static str; 5], screen: (u32, u32)) -> Agent {
    Agent {
        header,
        parsed,
        screen,
    }
}

/// Browsers on the web, most frequent first.
pub(crate) const AGENTS: [Agent; 16] = [
    agent(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
        ["Chrome", "120.0.0.0", "Windows", "10", "desktop"],
        (1920, 1080),
    ),
    agent(
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Mobile/15E148 Safari/604.1",
        ["Mobile Safari", "17.4", "iOS", "17.4", "mobile"],
        (390, 844),
    ),
    agent(
        "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.6367.82 Mobile Safari/537.36",
        ["Mobile Chrome", "124.0.6367.82", "Android", "14", "mobile"],
        (412, 915),
    ),
    agent(
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.3.1 Safari/605.1.15",
        ["Safari", "17.3.1", "macOS", "10.15.7", "desktop"],
        (1440, 900),
    ),
    agent(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36 Edg/124.0.2478.51",
        ["Edge", "124.0.2478.51", "Windows", "10", "desktop"],
        (2560, 1440),
    ),
    agent(
        "Mozilla/5.0 (X11; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0",
        ["Firefox", "125.0", "Linux", "", "desktop"],
        (1920, 1200),
    ),
    agent(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:126.0) Gecko/20100101 Firefox/126.0",
        ["Firefox", "126.0", "Windows", "10", "desktop"],
        (1366, 768),
    ),
    agent(
        "Mozilla/5.0 (Linux; Android 13; SAMSUNG SM-S911B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/24.0 Chrome/117.0.0.0 Mobile Safari/537.36",
        ["Samsung Internet", "24.0", "Android", "13", "mobile"],
        (360, 780),
    ),
    agent(
        "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 Mobile/15E148 Safari/604.1",
        ["Mobile Safari", "16.6", "iOS", "16.6", "tablet"],
        (820, 1180),
    ),
    agent(
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0 Safari/537.36",
        ["Chrome", "125.0.0.0", "macOS", "10.15.7", "desktop"],
        (1728, 1117),
    ),
    agent(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/122.0.0.0 YaBrowser/24.4.0.0 Safari/537.36",
        ["Yandex", "24.4.0.0", "Windows", "10", "desktop"],
        (1600, 900),
    ),
    agent(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/123.0.0.0 Safari/537.36 OPR/109.0.0.0",
        ["Opera", "109.0.0.0", "Windows", "10", "desktop"],
        (1536, 864),
    ),
    agent(
        "Mozilla/5.0 (Linux; Android 12; SM-T500) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/121.0.0.0 Safari/537.36",
        ["Chrome", "121.0.0.0", "Android", "12", "tablet"],
        (800, 1334),
    ),
    agent(
        "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/94.0.4606.128 Safari/537.36 WebAppManager",
        ["Chrome", "94.0.4606.128", "Linux", "", "smarttv"],
        (3840, 2160),
    ),
    agent(
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        ["", "", "", "", ""],
        (0, 0),
    ),
    agent("CustomBot/1.0", ["", "", "", "", ""], (0, 0)),
];

/// Where people are: an address range, a language tag and a time zone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// First two numbers of an IPv4 address, or the first two groups of an IPv6 address.
    pub(crate) prefix: &'static str,
    pub(crate) language: &'static str,
    pub(crate) timezone: &'static str,
}

const fn place(prefix: &'static str, language: &'static str, timezone: &'static str) -> Place {
    Place {
        prefix,
        language,
        timezone,
    }
}

/// Places, most frequent first.
pub(crate) const PLACES: [Place; 32] = [
    place("73.162", "en-US", "America/Los_Angeles"),
    place("91.12", "de-DE", "Europe/Berlin"),
    place("95.24", "ru-RU", "Europe/Moscow"),
    place("86.130", "en-GB", "Europe/London"),
    place("90.22", "fr-FR", "Europe/Paris"),
    place("2003:c7", "de", "Europe/Berlin"),
    place("49.36", "hi-IN", "Asia/Kolkata"),
    place("177.32", "pt-BR", "America/Sao_Paulo"),
    place("126.72", "ja-JP", "Asia/Tokyo"),
    place("2a01:cb00", "fr", "Europe/Paris"),
    place("79.20", "it-IT", "Europe/Rome"),
    place("80.30", "es-ES", "Europe/Madrid"),
    place("2601:640", "en-US", "America/Chicago"),
    place("84.24", "nl-NL", "Europe/Amsterdam"),
    place("83.8", "pl-PL", "Europe/Warsaw"),
    place("70.24", "fr-CA", "America/Toronto"),
    place("1.128", "en-AU", "Australia/Sydney"),
    place("175.192", "ko-KR", "Asia/Seoul"),
    place("37.52", "uk-UA", "Europe/Kyiv"),
    place("78.160", "tr-TR", "Europe/Istanbul"),
    place("189.128", "es-MX", "America/Mexico_City"),
    place("181.28", "es-AR", "America/Argentina/Buenos_Aires"),
    place("36.110", "zh-Hans-CN", "Asia/Shanghai"),
    place("2409:4063", "en-IN", "Asia/Kolkata"),
    place("78.64", "sv-SE", "Europe/Stockholm"),
    place("105.112", "en-NG", "Africa/Lagos"),
    place("41.13", "zu-ZA", "Africa/Johannesburg"),
    place("41.32", "ar-EG", "Africa/Cairo"),
    place("2804:14c", "pt-BR", "America/Recife"),
    place("2400:2410", "ja", "Asia/Tokyo"),
    place("85.64", "he-IL", "Asia/Jerusalem"),
    place("2a02:2168", "ru", "Europe/Moscow"),
];

/// Given names with family names, in many scripts.
pub(crate) const NAMES: [&str; 32] = [
    "Anna Schmidt",
    "Иван Петров",
    "María García",
    "Jean-Luc Ængström",
    "李小龙",
    "佐藤 さくら",
    "김민준",
    "Ольга Жук",
    "O'Brien, Seán",
    "Zoë Müller",
    "João da Silva",
    "محمد علي",
    "שרה כהן",
    "Łukasz Żółć",
    "Ngozi Okonkwo",
    "Priya नायर",
    "Björk Guðmundsdóttir",
    "Dvořák Šárka",
    "Nguyễn Thị Hoa",
    "Ελένη Παπαδοπούλου",
    "Þór Jónsson",
    "Emma \"Em\" Stone",
    "José Ñandú",
    "Tamar ბერიძე",
    "Արամ Սարգսյան",
    "Aylin Çağlar",
    "สมชาย ใจดี",
    "Максим Ёлкин",
    "Marie-Ève L'Heureux",
    "Kai 🌊 Kekoa",
    "Åsa Öberg",
    "Xander van 't Hoff",
];

/// Pages with titles.
pub(crate) const PAGES: [(&str, &str); 16] = [
    ("/", "Start"),
    ("/pricing", "Pricing"),
    ("/catalog/lamps", "Lamps — warm light"),
    ("/каталог/чай", "Чай и сладости"),
    ("/blog/2026/why-we-count", "Why we count"),
    ("/products/äpfel-&-birnen", "Äpfel & Birnen"),
    ("/docs/getting-started", "Getting started"),
    ("/search", "Search"),
    ("/商品/茶", "お茶"),
    ("/cart", "Your cart"),
    ("/account/settings", "Settings"),
    ("/help/returns", "Returns"),
    ("/careers", "Work with us 🚀"),
    ("/a/very/deep/path/that/nobody/remembers/index.html", "Archive"),
    ("/منتجات", "المنتجات"),
    ("/%E2%98%95", "Coffee \u{2014} \u{201c}fresh\u{201d}"),
];

/// Goods: identifier, name, price in cents.
pub(crate) const GOODS: [(&str, &str, u32); 10] = [
    ("sku-1001", "Desk lamp „Nord“", 4_999),
    ("sku-1002", "Tea, 250 g", 1_290),
    ("sku-1003", "Чашка", 899),
    ("sku-1004", "Notebook A5", 650),
    ("sku-1005", "Wollpullover", 12_900),
    ("sku-1006", "羽根ペン", 2_480),
    ("sku-1007", "Sticker 🦔", 150),
    ("sku-1008", "Annual plan", 118_800),
    ("sku-1009", "Gift card", 2_500),
    ("sku-1010", "Cable, 2 m", 999),
];

/// Product events that stand for themselves, most frequent first.
pub(crate) const ACTIONS: [&str; 24] = [
    "product_viewed",
    "search",
    "button clicked",
    "filter_applied",
    "video_played",
    "item_added",
    "export_started",
    "report_created",
    "invite_sent",
    "Добавил в избранное",
    "file_uploaded",
    "level_up",
    "comment_posted",
    "share",
    "settings_changed",
    "error_shown",
    "experiment_seen",
    "tour:finished",
    "お気に入り",
    "api_key.rotated",
    "subscription paused",
    "webhook_failed",
    "🎉 milestone",
    "beta/feature used",
];

/// Where visitors come from.
pub(crate) const REFERRERS: [&str; 8] = [
    "",
    "https://www.google.com/",
    "https://duckduckgo.com/?q=warm+lamp",
    "https://news.ycombinator.com/item?id=1",
    "https://ya.ru/search/?text=%D1%87%D0%B0%D0%B9",
    "https://t.co/abc123",
    "android-app://com.slack/",
    "https://newsletter.example/issue/42?utm_source=mail&utm_medium=email",
];

/// What people look for.
pub(crate) const QUERIES: [&str; 10] = [
    "lamp",
    "чай улун",
    "größe 42",
    "\"exact phrase\"",
    "お茶",
    "<b>bold</b>",
    "50% off",
    "café crème",
    "' OR 1=1 --",
    "🦔 sticker",
];
