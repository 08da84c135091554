//! What somebody on the wire can make who knows the protocol: he reads who talks and which numbers
//! come next, and computes every CRC, so before the two ends share a key his frames are as good
//! as theirs. A tag he cannot compute.

use protocol::{frame, session::Side};

use super::other;

/// How he changes what the two say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// Segments get more bytes, so that a record has some that nobody sealed.
    Lengthens,
    /// Segments lose bytes, so that a record lacks some.
    Shortens,
    /// A segment of his own begins a record that never ends.
    Begins,
    /// Segments never arrive and are acknowledged all the same.
    Acknowledges,
    /// Messages of the handshake lose their end, and all lengths in them are right.
    CutsHandshakes,
}

impl Forgery {
    /// Every one of them.
    pub const ALL: [Self; 5] =
        [Self::Lengthens, Self::Shortens, Self::Begins, Self::Acknowledges, Self::CutsHandshakes];
}

/// A frame of a connection, as far as it can be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    kind: u8,
    /// The number of its segment, if it has one.
    seq: Option<u64>,
    ack: u64,
    /// Where in the body its segment begins.
    segment_at: usize,
}

/// What he knows of the connection.
#[derive(Debug, Default)]
pub(super) struct Forger {
    /// What each side calls itself: as a greeting says it.
    nonces: [Option<Vec<u8>>; 2],
    /// The number of the segment that each side sends next.
    next: [u64; 2],
}

impl Forger {
    /// A greeting that this side sent.
    pub(super) fn note_greeting(&mut self, from: Side, body: &[u8]) {
        let Some(nonce) = body.get(NONCE_AT..NONCE_AT + NONCE_LEN) else { return };
        if self.nonces[from as usize].as_deref() != Some(nonce) {
            self.nonces[from as usize] = Some(nonce.to_vec());
            self.next = [0, 0];
        }
    }

    /// Any other frame that this side sent.
    pub(super) fn note(&mut self, from: Side, body: &[u8]) -> Option<Seen> {
        let (head, rest) = body.split_first()?;
        let kind = head & KIND_MASK;
        let (seq, ack) = match (kind, rest) {
            (DATA | PART, [seq, ack, ..]) => {
                let seq = closest(self.next[from as usize], *seq);
                self.next[from as usize] = self.next[from as usize].max(seq + 1);
                (Some(seq), *ack)
            }
            (ACK | PROBE | REPORT, [ack, ..]) => (None, *ack),
            _ => return None,
        };
        let ack = closest(self.next[other(from) as usize], ack);
        let segment_at = DATA_HEADER_LEN + usize::from(head >> KIND_BITS);
        Some(Seen { kind, seq, ack, segment_at })
    }

    /// What he sends instead of a frame, or after it, towards each side; nothing if he leaves the
    /// frame alone. `draw` gives a number below its argument.
    pub(super) fn forge(
        &self,
        forgery: Forgery,
        from: Side,
        (frame, body): (&[u8], &[u8]),
        seen: Seen,
        mut draw: impl FnMut(usize) -> usize,
    ) -> Option<Vec<(Side, Vec<u8>)>> {
        let to = other(from);
        let has_segment = seen.kind == DATA && body.len() > seen.segment_at;
        let segment = body.get(seen.segment_at..).filter(|_| has_segment);
        match forgery {
            Forgery::Lengthens => {
                let at = seen.segment_at + 1 + draw(segment?.len());
                let more = (0..1 + draw(20)).map(|_| draw(256) as u8);
                let more: Vec<u8> = more.collect();
                let body = [&body[..at], &more, &body[at..]].concat();
                Some(vec![(to, self.frame(from, seen.seq, seen.ack, &body)?)])
            }
            Forgery::Shortens => {
                let least = seen.segment_at + 1;
                let length = least + draw(segment?.len());
                Some(vec![(to, self.frame(from, seen.seq, seen.ack, &body[..length])?)])
            }
            Forgery::Begins => {
                let seq = self.next[from as usize];
                let stream = draw(2) as u8;
                // Up to the longest record that there is, and up to all but its end.
                let claimed = 200 + draw(16_000);
                let length = 2 + draw(claimed.min(600));
                let head = [DATA, seq as u8, seen.ack as u8, stream];
                let mut body = [&head[..], &(claimed as u16).to_le_bytes()].concat();
                body.extend((2..length).map(|_| draw(256) as u8));
                let begun = self.frame(from, Some(seq), seen.ack, &body)?;
                Some(vec![(to, frame.to_vec()), (to, begun)])
            }
            Forgery::Acknowledges => {
                let ack = self.next[from as usize];
                let mut body = match seen.kind {
                    DATA | PART => vec![ACK, ack as u8],
                    PROBE => vec![REPORT, ack as u8],
                    _ => return None,
                };
                if seen.kind == PROBE {
                    body.extend_from_slice(frame_stamp(frame)?.as_slice());
                }
                Some(vec![(from, self.frame(to, None, ack, &body)?)])
            }
            Forgery::CutsHandshakes => {
                let segment = segment.filter(|it| seen.seq == Some(0) && it.len() > LENGTH_END)?;
                let length = seen.segment_at + LENGTH_END + draw(segment.len() - LENGTH_END);
                Some(vec![(to, self.frame(from, seen.seq, seen.ack, &body[..length])?)])
            }
        }
    }

    /// A frame as this side would make it, had it no key.
    fn frame(&self, from: Side, seq: Option<u64>, ack: u64, body: &[u8]) -> Option<Vec<u8>> {
        let mut prefix = self.nonces[from as usize].clone()?;
        prefix.extend_from_slice(self.nonces[other(from) as usize].as_ref()?);
        prefix.extend(seq.into_iter().chain([ack]).flat_map(u64::to_le_bytes));
        let mut out = Vec::new();
        frame::encode(&prefix, &body[..body.len().min(frame::BODY_MAX)], &mut out);
        Some(out)
    }
}

/// The stamp of a Probe.
fn frame_stamp(frame: &[u8]) -> Option<[u8; 2]> {
    super::plain(frame)?.get(2..4)?.try_into().ok()
}

/// The number closest to `near` with these low bits.
fn closest(near: u64, low: u8) -> u64 {
    near.saturating_add_signed(i64::from(low.wrapping_sub(near as u8) as i8))
}

// `SPEC.md`, sections 3 and 4.
const NONCE_AT: usize = 5;
const NONCE_LEN: usize = 12;
const KIND_MASK: u8 = 7;
const KIND_BITS: u32 = 3;
const DATA: u8 = 2;
const ACK: u8 = 3;
const PROBE: u8 = 4;
const REPORT: u8 = 5;
const PART: u8 = 6;
const DATA_HEADER_LEN: usize = 3;
/// Behind the stream and the length of the record that a segment of the handshake has.
const LENGTH_END: usize = 3;

#[cfg(test)]
mod tests {
    use protocol::link::{Endpoint, EndpointConfig};
    use protocol::time::Instant;

    use super::*;
    use crate::adversary::plain;

    // Found by a swarm seed: what noise had left of a handshake's first segment.
    #[test]
    fn segments_of_every_length_are_forged_or_left_alone() {
        let nonces = [1, 2].map(|octet| Some(vec![octet; NONCE_LEN]));
        let forger = Forger { nonces, next: [0; 2] };
        let mut forged = 0;
        for length in 0..20 {
            let body = [&[DATA, 0, 0][..], &vec![9; length]].concat();
            for forgery in Forgery::ALL {
                let seen = Seen { kind: DATA, seq: Some(0), ack: 0, segment_at: DATA_HEADER_LEN };
                let made =
                    forger.forge(forgery, Side::Signer, (&body, &body), seen, |below| below / 2);
                forged += made.map_or(0, |frames| frames.len());
            }
        }
        assert!(forged > 60, "{forged}");
    }

    /// What he makes for two ends without keys is good at the link, or his acts would prove
    /// nothing of the keys.
    #[test]
    fn without_a_key_his_frames_are_taken_for_those_of_the_two_ends() {
        let now = Instant::ZERO;
        let endpoint =
            |side, boot_id| Endpoint::new(EndpointConfig { side, boot_id, line_rate: None }, now);
        for forgery in Forgery::ALL {
            let mut frontend = endpoint(Side::Frontend, 1);
            let mut signer = endpoint(Side::Signer, 2);
            let mut forger = Forger::default();
            let mut segment = Some([&[0, 48, 0][..], &[7; 48]].concat());
            let (mut forged, mut heard) = (0, Vec::new());
            for _ in 0..10 {
                let mut said = Vec::new();
                while let Some(bytes) = frontend.poll_transmit(now, |_| segment.take()) {
                    said.push((Side::Frontend, bytes));
                }
                while let Some(bytes) = signer.poll_transmit(now, |_| None) {
                    said.push((Side::Signer, bytes));
                }
                for (from, bytes) in said {
                    for run in bytes.split_inclusive(|byte| *byte == 0).filter(|run| run.len() > 1)
                    {
                        let body = plain(run).unwrap();
                        let body = &body[..body.len() - frame::CRC_LEN];
                        if body[0] == 1 {
                            forger.note_greeting(from, body);
                        }
                        let seen = forger.note(from, body);
                        let made = seen.and_then(|seen| {
                            forger.forge(forgery, from, (run, body), seen, |below| below / 2)
                        });
                        forged += made.as_ref().map_or(0, Vec::len);
                        for (to, bytes) in made.unwrap_or_else(|| vec![(other(from), run.to_vec())])
                        {
                            match to {
                                Side::Frontend => frontend.handle_bytes(now, &bytes),
                                Side::Signer => signer.handle_bytes(now, &bytes),
                            }
                        }
                    }
                }
                heard.extend(std::iter::from_fn(|| signer.poll_segment()));
            }
            assert!(forged > 0, "{forgery:?}");
            let broken = [&frontend, &signer].map(|end| end.counters().frames_broken);
            assert_eq!(broken, [0, 0], "{forgery:?}");
            let lengths: Vec<usize> = heard.iter().map(Vec::len).collect();
            match forgery {
                Forgery::Lengthens => assert_eq!(lengths, [51 + 11]),
                Forgery::Shortens => assert_eq!(lengths, [1 + 25]),
                Forgery::Begins => assert!(lengths.len() > 1, "{lengths:?}"),
                Forgery::Acknowledges => assert!(lengths.is_empty()),
                Forgery::CutsHandshakes => assert_eq!(lengths, [3 + 24]),
            }
        }
    }
}
