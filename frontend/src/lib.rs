//! The networked side of the isolated signer: it takes requests, keeps them until they are
//! answered, and believes no answer that it has not checked. It never holds a CA key.
//!
//! | module | duty |
//! |---|---|
//! | [`cli`], [`commands`] | what a person or a script types, and what each command does |
//! | [`csr`], [`spkac`], [`openpgp`], [`subject`], [`precheck`], [`revoke_list`] | refuse at once what is nonsense |
//! | [`home`], [`store`], [`durable`], [`handed_out`] | the directory, the one database in it, files that survive a pulled plug, and those for others |
//! | [`link_key`] | by which keys this frontend and its signer know each other |
//! | [`queue`] | every request from its commit to its one outcome |
//! | [`carrier`] | decides what is sent when, and what an answer does: no I/O but the store |
//! | [`driver`] | joins the carrier, the cable, the clock and the signals of this process |
//! | [`catalogue`], [`verify`], [`signature`] | whom the frontend trusts, checking what came |
//! | [`inventory`], [`crl`], [`audit`] | what came back and was checked; the copy of the audit log |
//! | [`clock`], [`logging`], [`progress`] | clocks and randomness; log output; progress shown |
//! | [`names`], [`der`], [`pem`] | reading certificates |
//! | [`refusal`], [`error`] | a rule that says no; how a command ends when it does not end well |

pub mod audit;
pub mod bundle;
pub mod carrier;
pub mod catalogue;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod crl;
pub mod csr;
pub mod der;
pub mod driver;
pub mod durable;
pub mod error;
pub mod handed_out;
pub mod home;
pub mod inventory;
pub mod link_key;
pub mod logging;
pub mod names;
pub mod openpgp;
pub mod pem;
pub mod precheck;
pub mod progress;
pub mod queue;
pub mod refusal;
pub mod revoke_list;
pub mod signature;
pub mod spkac;
pub mod store;
pub mod subject;
pub mod verify;

#[cfg(test)]
mod test_ca;
