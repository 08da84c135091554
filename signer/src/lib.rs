//! The isolated signer: one program, three roles.
//!
//! | role | module | sees | never sees |
//! |---|---|---|---|
//! | vault | [`vault`] | keys, policy, ledger, stores | the wire |
//! | gate | [`gate`] | the wire, untrusted bytes | a key, the store |
//! | intake | [`intake`] | one untrusted CSR or OpenPGP key at a time | anything else |
//!
//! `signer run` is the vault; it starts the gate over a socketpair, the gate starts the intake.
//! What an operator types at the crash cart is the [`console`].

pub mod adopt;
pub mod audit;
pub mod authority;
pub mod blocklist;
pub mod calendar;
pub mod call;
pub mod clock;
pub mod console;
pub mod der;
pub mod durable;
pub mod fault;
pub mod framing;
pub mod gate;
pub mod intake;
pub mod keys;
pub mod ledger;
pub mod link_key;
pub mod lint;
pub mod name;
pub mod openpgp;
pub mod profile;
pub mod refusal;
pub mod tbs;
pub mod vault;
