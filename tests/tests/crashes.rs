//! `kill -9` at any moment, and answers that got lost: each request has exactly one outcome.

use std::time::Duration;

use anyhow::{Context, Result};
use tests::{Cable, Seed, World, batch::Batch, story};

/// Enough that every kill hits work under way on a line that carries about 20 a second.
const REQUESTS: usize = 60;
const KILLS: usize = 10;
const IDLE_MAX: Duration = Duration::from_secs(60);

#[test]
fn kill_nine_of_the_signer_at_any_moment_leaves_one_outcome_per_request() {
    let name = "kill_nine_of_the_signer_at_any_moment";
    story(Cable::line(), |world| {
        killed_again_and_again(world, &mut Seed::from_environment(0x51), name, |world, lines| {
            if world.running_signer()?.wait_for_more(lines, QUIET_MAX)? {
                world.kill_and_restart_signer()?;
            }
            Ok(())
        })
    });
}

#[test]
fn kill_nine_of_the_frontend_at_any_moment_leaves_one_outcome_per_request() {
    let name = "kill_nine_of_the_frontend_at_any_moment";
    story(Cable::line(), |world| {
        killed_again_and_again(world, &mut Seed::from_environment(0xf0), name, |world, lines| {
            if world.running_frontend()?.wait_for_more(lines, QUIET_MAX)? {
                world.kill_and_restart_frontend()?;
            }
            Ok(())
        })
    });
}

/// The moments follow from the seed and from the machine: a kill comes when the victim has
/// written so many more lines.
fn killed_again_and_again(
    world: &mut World,
    seed: &mut Seed,
    name: &str,
    kill: impl Fn(&mut World, usize) -> Result<()>,
) -> Result<()> {
    world.found("ec:P-256")?;
    let batch = Batch::queue(world, REQUESTS)?;
    world.start()?;
    let mut killed = || -> Result<()> {
        for _ in 0..KILLS {
            let lines = usize::try_from(1 + seed.below(12))?;
            kill(world, lines)?;
        }
        world.run_until_idle(IDLE_MAX)?;
        world.stop()?;
        world.signer(&["store", "check"])?.done()?;
        batch.assert_issued_once_each(world)
    };
    killed().with_context(|| seed.replay(name))
}

// Lesson: an acknowledgement lost after signing leads to the same certificate again.
#[test]
fn an_answer_lost_on_the_cable_is_given_again_and_not_signed_again() {
    story(Cable::line(), |world| {
        world.found("ec:P-256")?;
        let batch = Batch::queue(world, 1)?;
        world.start()?;
        // The answer takes 50 ms on the line: it is cut while under way.
        world.running_signer()?.wait_for("issued", Duration::from_secs(30))?;
        world.cut()?;
        world.running_frontend()?.kill()?;
        world.running_signer()?.kill()?;
        world.plug()?;
        world.start_signer()?;
        world.run_until_idle(IDLE_MAX)?;
        world.stop()?;
        batch.assert_issued_once_each(world)
    });
}

/// A victim that writes nothing for so long has nothing left to do.
const QUIET_MAX: Duration = Duration::from_secs(3);
