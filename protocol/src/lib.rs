//! The language of the cable between the frontend and the isolated signer.
//!
//! From the wire up, each layer one module and each testable alone:
//!
//! | module | duty |
//! |---|---|
//! | [`port`] (feature `port`) | opens a serial line, a network interface that is a cable, a pty or a unix socket: the only I/O here |
//! | [`frame`] | COBS and a check: a broken frame is counted and dropped, the next one is good |
//! | [`link`] | hello, sliding window, selective acknowledgement, retransmission, keep-alive |
//! | [`secure`] | seals records for the paired peer; a stranger on the wire can only delay |
//! | [`lanes`] | cuts messages into chunks and schedules them by priority |
//! | [`patch`] | zstd against what the other end already has |
//! | [`message`] | what the two ends say to each other, and every size bound |
//! | [`bundle`] | the same messages sealed as a file, for a signer without a cable |
//! | [`user_id`] | when two OpenPGP user IDs are the same, and which deceive |
//! | [`session`] | the layers above in one piece, as the two programs use them |
//!
//! Nothing but `port` touches a device. Nothing reads a clock, starts a thread or asks the system
//! for randomness: time is passed in as [`time::Instant`], so a run can be replayed.
//! `SPEC.md` beside this crate describes the bytes for another implementation.

pub mod bounded;
pub mod bundle;
pub mod codec;
pub mod frame;
pub mod lanes;
pub mod link;
pub mod message;
pub mod patch;
#[cfg(feature = "port")]
pub mod port;
pub mod secure;
pub mod session;
pub mod time;
pub mod user_id;
mod varint;
pub mod version;
