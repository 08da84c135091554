//! A power cut at every point of a run: wherever either end loses power, it starts again by itself,
//! every request has one outcome in the end, no number was used twice, and every file is right.
//!
//! `LINK_SIM_POWER_POINTS=10000 cargo test --release -p link-sim --test power` pulls the plug at so
//! many points; a failure prints the line that replays it.

use std::{env, thread};

use link_sim::swarm::{Point, Points, Sabotage, points, run_with_power_cut};

/// Points of the ordinary run.
const POINTS_DEFAULT: u32 = 320;
/// Worlds among which they are shared out: other lines, machines and kinds of CRLs.
const WORLDS: u32 = 8;

#[test]
fn power_cut_at_any_point_of_either_end_loses_and_doubles_nothing() {
    if let (Some(seed), Some(nth)) = (number("LINK_SIM_SEED"), number("LINK_SIM_POWER_POINT")) {
        return pull(seed.into(), points_of(seed.into()), nth);
    }
    let wanted = number("LINK_SIM_POWER_POINTS").unwrap_or(POINTS_DEFAULT);
    let list = spread(wanted);
    assert_eq!(list.len(), wanted as usize);
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let list = &list[..];
    let (mut of_the_store, mut moments) = (0, 0);
    for (_, points, nth) in list {
        match points.nth(*nth) {
            Point::Store(_) => of_the_store += 1,
            Point::Moment(_) => moments += 1,
        }
    }
    thread::scope(|scope| {
        for job in 0..jobs {
            scope.spawn(move || {
                for (seed, points, nth) in list.iter().skip(job).step_by(jobs) {
                    pull(*seed, *points, *nth);
                }
            });
        }
    });
    println!("{wanted} power cuts: {of_the_store} in the signer's store, {moments} between turns");
    assert!(of_the_store > 0 && moments > 0);
}

#[test]
fn a_disk_that_forgets_is_found_by_a_power_cut() {
    let points = points_of(0);
    // Between two things that nothing of is on disk it has nothing to forget.
    let found = (0..points.moments).step_by(8).find_map(|moment| {
        run_with_power_cut(0, Point::Moment(moment), Some(Sabotage::ForgetfulDisk)).err()
    });
    let failure = found.expect("a disk that forgets breaks a rule at one of these points");
    println!("{}", failure.violation);
    assert!(failure.violation.to_string().starts_with('I'), "{failure:?}");
}

/// So many points, evenly over the runs of as many worlds as it takes.
fn spread(wanted: u32) -> Vec<(u64, Points, u32)> {
    let mut list = Vec::new();
    for seed in 0.. {
        let points = points_of(seed);
        let left = wanted - list.len() as u32;
        let here = wanted.div_ceil(WORLDS).min(points.count()).min(left);
        let nth = |i: u32| (u64::from(i) * u64::from(points.count()) / u64::from(here)) as u32;
        list.extend((0..here).map(|i| (seed, points, nth(i))));
        if list.len() == wanted as usize {
            break;
        }
    }
    list
}

fn points_of(seed: u64) -> Points {
    let points = points(seed).unwrap_or_else(|failure| panic!("seed {seed}: {failure:?}"));
    assert!(points.store > 50 && points.moments > 100, "seed {seed}: {points:?}");
    points
}

fn pull(seed: u64, points: Points, nth: u32) {
    let report = run_with_power_cut(seed, points.nth(nth), None).unwrap_or_else(|failure| {
        panic!(
            "{} (at {:?}, operation {})\nreplay: LINK_SIM_SEED={seed} LINK_SIM_POWER_POINT={nth} \
             cargo test -p link-sim --test power",
            failure.violation,
            points.nth(nth),
            failure.after
        )
    });
    let counts = report.counts;
    // Five certificates, one refusal, one revocation, each once.
    let done = (counts.issued, counts.refused, counts.revoked, counts.finished);
    assert_eq!(done, (5, 1, 1, 7), "seed {seed}, point {nth}: {counts:?}");
}

fn number(variable: &str) -> Option<u32> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text:?}")))
}
