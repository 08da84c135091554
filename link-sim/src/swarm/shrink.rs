//! Cuts a failing list of operations down to the few that it takes (delta debugging, Zeller and
//! Hildebrandt 2002).

use super::{Failure, Operation, Sabotage, campaign};

/// The shortest list found with which the seed still breaks a rule, and how.
pub fn shrink(
    seed: u64,
    operations: Vec<Operation>,
    failure: Failure,
    sabotage: Option<Sabotage>,
) -> (Vec<Operation>, Failure) {
    let mut shortest = operations;
    shortest.truncate(failure.after);
    let mut failure = failure;
    let mut tries = 0;
    let mut piece = shortest.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut shorter = false;
        while at < shortest.len() && tries < TRIES_MAX {
            let mut rest = shortest.clone();
            rest.drain(at..(at + piece).min(shortest.len()));
            tries += 1;
            match campaign::run_caught(seed, &rest, sabotage) {
                Err(other) => {
                    (shortest, failure) = (rest, other);
                    shorter = true;
                }
                Ok(_) => at += piece,
            }
        }
        if tries >= TRIES_MAX || piece == 1 && !shorter {
            return (shortest, failure);
        }
        if !shorter || piece > shortest.len() {
            piece = (piece / 2).max(1);
        }
    }
}

/// Runs that a short list may cost: a minute or so.
const TRIES_MAX: u32 = 1_000;
