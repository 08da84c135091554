//! The bad cable, seeded: in memory on virtual time for tests, as a pty pair for real programs.
//!
//! | module | duty |
//! |---|---|
//! | [`adversary`] | somebody who owns the wire |
//! | [`swarm`] | both whole programs on virtual time, from one number |
//! | [`scenarios`] | everything that can go wrong, by name |
//! | [`grid`] | goodput by error rate and latency |
//! | [`faults`] | what can be wrong, as values, and the mixtures that have a name |
//! | [`wire`] | one direction of a serial line, without I/O and without a clock |
//! | [`pair`] | two sessions joined by two wires on virtual time |
//! | [`checker`] | what must hold on any cable |
//! | [`workload`] | the layer that asks again until it is answered |
//! | [`pty`] | two pty devices joined by two wires on real time |
//! | [`random`] | chance that replays from one number |
//!
//! Only `pty` touches a device or a clock. The same seed always gives the same run.

pub mod adversary;
pub mod checker;
pub mod faults;
pub mod grid;
pub mod pair;
pub mod pty;
pub mod random;
pub mod scenarios;
pub mod swarm;
pub mod wire;
pub mod workload;
