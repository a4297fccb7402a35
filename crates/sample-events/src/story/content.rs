//! What events carry in `properties`: every key has one detected type, or sometimes none, so that the catalogue does
//! not depend on the order in which events are seen.

use serde_json::{Map, Value, json};

use crate::random::Random;
use crate::vocabulary::{GOODS, QUERIES};

/// The properties of an event of this name.
pub(crate) fn properties(random: &mut Random, name: &str) -> Value {
    let mut properties = match name {
        "$pageview" | "$screen" => json!({
            "load_time": random.between(40, 4000), "is_first_visit": random.chance(300),
        }),
        "$identify" | "$set" | "$set_once" => json!({}),
        "$pageleave" => json!({
            "scroll_depth": random.between(0, 1000) as f64 / 1000.0, "time_on_page": random.between(1, 900),
        }),
        "product_viewed" | "item_added" => goods(random),
        "checkout_started" | "order_completed" => order(random),
        "search" => json!({"query": random.pick(&QUERIES), "results": random.below(500), "sort": null}),
        "filter_applied" => json!({
            "filters": {"colour": ["red", "grün"], "price": {"max": random.below(500), "min": null}}, "page": "2",
        }),
        "video_played" => {
            json!({"position": random.below(10_000) as f64 / 10.0, "muted": "true", "ratio": "1.7778"})
        }
        "level_up" => {
            json!({"level": random.between(1, 99), "score": random.between(-500, 90_000), "tiny": 1.5e-7})
        }
        "settings_changed" => json!({
            "$set": {"theme": "dark", "font_size": random.between(9, 24)}, "$set_once": {"first_theme": "light"},
        }),
        "error_shown" => json!({
            "code": if random.chance(500) { json!(404) } else { Value::Null },
            "message": "Cannot read \"x\"\n\tat line 3: \\ end", "stack": [{"line": 3, "file": "a.js"}],
        }),
        "experiment_seen" => json!({
            "$feature/new-checkout": random.chance(500), "$feature_flag_response": random.below(3),
        }),
        "export_started" | "report_created" => json!({
            "from_date": "2026-05-01", "rows": 9_007_199_254_740_993_u64, "requested_at": 1_790_000_000_000_u64,
            "note": "2026-05-01T00:00:00Z",
        }),
        "invite_sent" => json!({"$groups": {"company": "acme"}, "$group_0": "acme", "role": "member"}),
        "Добавил в избранное" | "お気に入り" => {
            json!({"товар": random.one(&GOODS).1, "数量": random.between(1, 5), "🦔": true})
        }
        _ => json!({"position": random.below(100), "label": "Weiter →"}),
    };
    if random.chance(60)
        && let Some(object) = properties.as_object_mut()
    {
        campaign(random, object);
    }
    properties
}

fn campaign(random: &mut Random, properties: &mut Map<String, Value>) {
    properties.insert(
        "utm_source".into(),
        json!(random.pick(&["google", "mail", "телеграм"])),
    );
    properties.insert("utm_campaign".into(), json!(random.between(2020, 2026)));
}

fn goods(random: &mut Random) -> Value {
    let (sku, name, cents) = *random.one(&GOODS[..]);
    json!({
        "sku": sku, "product": name, "price": f64::from(cents) / 100.0, "currency": "EUR",
        "size": random.between(36, 46).to_string(), "in_stock": random.chance(900),
        "coupon": if random.chance(100) { json!("SOMMER") } else { Value::Null },
    })
}

fn order(random: &mut Random) -> Value {
    let mut cents = 0;
    let mut items = Vec::new();
    for _ in 0..random.between(1, 3) {
        let (sku, name, price) = *random.one(&GOODS[..]);
        let quantity = random.between(1, 4) as u32;
        cents += price * quantity;
        items.push(json!({"sku": sku, "name": name, "quantity": quantity, "gift": null}));
    }
    json!({
        "order_id": format!("A-{:08}", random.below(100_000_000)), "items": items, "currency": "EUR",
        "total": f64::from(cents) / 100.0, "discount": "12.5", "express": random.chance(200),
        "delivery_date": format!("2026-07-{:02}", random.between(1, 28)),
        "ordered_at": format!("2026-06-{:02}T10:30:00Z", random.between(1, 28)),
    })
}
