//! `DATABASE_URL` in all its forms, against real servers.

mod certificates;
mod failover;
mod modes;
mod pooler;
mod server;
mod several;
