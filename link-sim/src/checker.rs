//! What must hold on any cable, however bad: in order per lane, each sending at most once, and
//! nothing that was not sent.
//!
//! A [`Checker`] watches one direction from the outside: it is told what one end sent and what
//! the other end received, and knows nothing of the layers between. That everything arrives once
//! the cable is good again is for the caller to wait for, see [`crate::workload`].

use std::collections::HashMap;

use protocol::message::{Lane, Message};

/// One direction, seen from the outside.
#[derive(Debug, Default)]
pub struct Checker {
    lanes: HashMap<Lane, LaneRecord>,
    connected: bool,
    counts: Counts,
}

/// How much went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that the sending end took.
    pub sent: u64,
    /// Messages that the receiving end gave out.
    pub received: u64,
    /// Connections that came up at the receiving end.
    pub connections: u64,
}

/// What no cable may bring about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A message arrived that nobody sent, or a damaged one.
    #[error("a message arrived on lane {lane:?} that nobody sent: {message}")]
    NeverSent {
        /// Where.
        lane: Lane,
        /// What, cut short.
        message: String,
    },
    /// A message arrived a second time, or after a later one of its lane.
    #[error("a message arrived twice or out of order on lane {lane:?}: {message}")]
    Again {
        /// Where.
        lane: Lane,
        /// What, cut short.
        message: String,
    },
    /// A message arrived while there was no connection.
    #[error("a message arrived without a connection on lane {lane:?}: {message}")]
    Unconnected {
        /// Where.
        lane: Lane,
        /// What, cut short.
        message: String,
    },
    /// A connection came up twice or went down twice.
    #[error("a connection that is {state} went {state} again")]
    Repeated {
        /// `up` or `down`.
        state: &'static str,
    },
}

/// The sendings of one lane, each by its encoding, and how far the other end has come.
#[derive(Debug, Default)]
struct LaneRecord {
    sent: Vec<Vec<u8>>,
    /// The first sending that may still arrive: everything before has arrived or is forgotten.
    next: usize,
}

impl Checker {
    /// The sending end took a message.
    pub fn sent<M: Message>(&mut self, message: &M) {
        let record = self.lanes.entry(message.lane()).or_default();
        record.sent.push(encoding(message));
        self.counts.sent += 1;
    }

    /// The receiving end gave out a message.
    pub fn received<M: Message + std::fmt::Debug>(&mut self, message: &M) -> Result<(), Violation> {
        let lane = message.lane();
        let in_short = || format!("{message:?}").chars().take(200).collect::<String>();
        if !self.connected {
            return Err(Violation::Unconnected { lane, message: in_short() });
        }
        let bytes = encoding(message);
        let record = self.lanes.entry(lane).or_default();
        let (past, future) = record.sent.split_at(record.next);
        match future.iter().position(|sent| *sent == bytes) {
            Some(ahead) => record.next += ahead + 1,
            None if past.contains(&bytes) => {
                return Err(Violation::Again { lane, message: in_short() });
            }
            None => return Err(Violation::NeverSent { lane, message: in_short() }),
        }
        self.counts.received += 1;
        Ok(())
    }

    /// The receiving end has a connection.
    pub fn up(&mut self) -> Result<(), Violation> {
        if std::mem::replace(&mut self.connected, true) {
            return Err(Violation::Repeated { state: "up" });
        }
        self.counts.connections += 1;
        Ok(())
    }

    /// The receiving end's connection ended.
    pub fn down(&mut self) -> Result<(), Violation> {
        match std::mem::replace(&mut self.connected, false) {
            true => Ok(()),
            false => Err(Violation::Repeated { state: "down" }),
        }
    }

    /// The receiving program started anew.
    pub fn restarted(&mut self) {
        self.connected = false;
    }

    /// How much went through.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

fn encoding<M: Message>(message: &M) -> Vec<u8> {
    message.to_bytes().expect("a message within its bounds can be encoded")
}

#[cfg(test)]
mod tests {
    use protocol::message::{Request, TimeHint};

    use super::*;

    fn hint(unix_us: i64) -> Request {
        Request::TimeHint(TimeHint { unix_us, round_trip_us: None, synchronised: true })
    }

    fn connected(sent: &[i64]) -> Checker {
        let mut checker = Checker::default();
        sent.iter().for_each(|number| checker.sent(&hint(*number)));
        checker.up().unwrap();
        checker
    }

    #[test]
    fn messages_in_order_with_gaps_are_fine() {
        let mut checker = connected(&[1, 2, 3]);
        checker.received(&hint(1)).unwrap();
        checker.received(&hint(3)).unwrap();
        assert_eq!(checker.counts(), Counts { sent: 3, received: 2, connections: 1 });
    }

    #[test]
    fn second_arrival_is_seen_also_on_a_later_connection() {
        let mut checker = connected(&[1]);
        checker.received(&hint(1)).unwrap();
        checker.down().unwrap();
        checker.up().unwrap();
        assert!(matches!(checker.received(&hint(1)), Err(Violation::Again { .. })));
    }

    #[test]
    fn wrong_order_is_seen() {
        let mut checker = connected(&[1, 2]);
        checker.received(&hint(2)).unwrap();
        assert!(matches!(checker.received(&hint(1)), Err(Violation::Again { .. })));
    }

    #[test]
    fn what_nobody_sent_is_seen() {
        let mut checker = connected(&[1]);
        assert!(matches!(checker.received(&hint(2)), Err(Violation::NeverSent { .. })));
    }

    #[test]
    fn arrival_without_a_connection_is_seen() {
        let mut checker = connected(&[1]);
        checker.restarted();
        assert!(matches!(checker.received(&hint(1)), Err(Violation::Unconnected { .. })));
        assert_eq!(checker.down(), Err(Violation::Repeated { state: "down" }));
    }
}
