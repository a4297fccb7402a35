//! Who acts in the samples: people with an id of their own and two devices, each with an anonymous id.

use crate::random::Random;
use crate::vocabulary::{AGENTS, Agent, NAMES, PLACES, Place};

/// A browser or phone.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    /// The anonymous id its SDK made up.
    pub(crate) anonymous_id: String,
    pub(crate) agent: Agent,
    pub(crate) place: Place,
    pub(crate) ip: String,
    /// Whether an `$identify` was sent from it.
    pub(crate) linked: bool,
}

impl Device {
    /// A device somewhere in the world.
    pub(crate) fn new(random: &mut Random) -> Self {
        let place = *random.one(&PLACES[..]);
        // Squared, so that the first ones are the usual ones.
        let rank =
            random.below(AGENTS.len() as u64) * random.below(AGENTS.len() as u64) / AGENTS.len() as u64;
        let anonymous_id = match random.below(3) {
            0 => format!("anon_{:012x}", random.below(1 << 48)),
            _ => random.uuid().to_string(),
        };
        Self {
            anonymous_id,
            agent: AGENTS[rank as usize],
            place,
            ip: address(place, random),
            linked: false,
        }
    }
}

fn address(place: Place, random: &mut Random) -> String {
    if place.prefix.contains(':') {
        let (a, b) = (random.below(0x1_0000), random.between(1, 0xffff));
        format!("{}:{a:x}::{b:x}", place.prefix)
    } else {
        format!(
            "{}.{}.{}",
            place.prefix,
            random.below(256),
            random.between(1, 254)
        )
    }
}

/// A person, and what is known about the state of the relation.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    pub(crate) user_id: String,
    pub(crate) name: &'static str,
    pub(crate) email: String,
    pub(crate) devices: [Device; 2],
    pub(crate) signed_up: bool,
    /// How often something about the person was changed.
    pub(crate) changes: u32,
}

impl Actor {
    /// The person of this number within a project.
    pub(crate) fn new(random: &mut Random, number: usize) -> Self {
        let email = format!("person{number}@mail.example");
        let user_id = match number % 12 {
            0 => format!("Пользователь {number}:1"),
            1 => format!("org:acme/user {number}"),
            2 => format!("🦊{number}"),
            3 => format!(" padded-{number} "),
            4 | 5 => email.clone(),
            6 | 7 => random.uuid().to_string(),
            _ => format!("user-{number}"),
        };
        let devices = [Device::new(random), Device::new(random)];
        Self {
            user_id,
            name: random.pick(&NAMES),
            email,
            devices,
            signed_up: false,
            changes: 0,
        }
    }

    /// The distinct id that the SDK on this device sends.
    pub(crate) fn distinct_id(&self, device: usize) -> &str {
        if self.devices[device].linked {
            &self.user_id
        } else {
            &self.devices[device].anonymous_id
        }
    }
}
