//! The real programs over the bad cable, judged by other people's tools.
//!
//! A test tells a story to a [`World`]: a scratch folder with a signer, a frontend and a cable,
//! each a process of its own. It never looks into the programs; it types what a person would type,
//! and asks `openssl`, `certtool` and `gpg` whether the answer is right. Nothing here sleeps: a
//! wait ends with what is waited for or with its deadline.

pub mod bare;
pub mod batch;
pub mod cacert_tree;
pub mod differential;
pub mod judges;
pub mod material;
pub mod netns;
pub mod openpgp;
pub mod process;
pub mod seed;
pub mod world;

pub use bare::Bare;
pub use process::{Ended, Process};
pub use seed::Seed;
pub use world::{Cable, World};

/// Tells a story in a fresh world; when it fails, the ends of the programs' logs are told too.
pub fn story(cable: Cable, tell: impl FnOnce(&mut World) -> anyhow::Result<()>) {
    let mut world = World::new(cable).expect("a scratch folder can be made");
    if let Err(error) = tell(&mut world) {
        panic!("{error:#}");
    }
}
