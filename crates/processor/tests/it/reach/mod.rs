//! Every form of address, against the real server of that form, and what is said when it is wrong.

mod postgres;
