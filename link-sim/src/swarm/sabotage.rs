//! Programs that are wrong on purpose, to prove that the oracle sees it.
//!
//! Each sabotage changes what passes between two rooms, as a fault in one of them would. In a run
//! that looks for faults there is none.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{
    message::{Answer, CrlScope, Message, RequestId},
    session::Event,
};
use signer::call::{Call, Reply, Tagged};

use super::crls::{Certificates, Crl};

/// What is wrong with the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A session gives out a message twice.
    DeliversTwice,
    /// A session gives out two messages of a lane in the wrong order.
    Reorders,
    /// The gate loses the answer to one request, each time.
    Forgets,
    /// A request that is asked again is signed again.
    SignsTwice,
    /// Two requests get each other's certificates.
    Swaps,
    /// A revocation is acknowledged and not recorded.
    ForgetsRevocations,
    /// A commit of the ledger is not durable: a restart goes back to what was there before.
    ForgetfulDisk,
    /// What only the console may ask for is signed like anything else.
    OpensTheConsole,
    /// A revoked certificate leaves the full CRL as soon as it has expired.
    DropsTheExpired,
    /// A shard's CRL lists a certificate of another shard.
    MixesShards,
    /// A delta CRL leaves out an entry.
    ThinsDeltas,
}

impl Sabotage {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::DeliversTwice,
        Self::Reorders,
        Self::Forgets,
        Self::SignsTwice,
        Self::Swaps,
        Self::ForgetsRevocations,
        Self::ForgetfulDisk,
        Self::OpensTheConsole,
        Self::DropsTheExpired,
        Self::MixesShards,
        Self::ThinsDeltas,
    ];
}

/// Does what a [`Sabotage`] says, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Saboteur {
    sabotage: Option<Sabotage>,
    struck: u64,
    victim: Option<RequestId>,
    /// Requests that were decided before, for [`Sabotage::SignsTwice`].
    seen: BTreeSet<RequestId>,
    /// The true ids behind those that the vault was told.
    aliases: BTreeMap<RequestId, RequestId>,
    next_alias: u8,
    /// Answers that no vault gave.
    made_up: Vec<Tagged<Reply>>,
}

impl Saboteur {
    pub(crate) fn new(sabotage: Option<Sabotage>) -> Self {
        Self { sabotage, ..Self::default() }
    }

    pub(crate) fn is(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    /// Whether the third occasion for this sabotage is now: the first two are good, so that what
    /// is seen is the fault and not that nothing works.
    pub(crate) fn strikes(&mut self, sabotage: Sabotage) -> bool {
        if !self.is(sabotage) {
            return false;
        }
        self.struck += 1;
        self.struck == 3
    }

    pub(crate) fn reorder<In: Message>(&mut self, events: &mut [Event<In>]) {
        if !self.is(Sabotage::Reorders) {
            return;
        }
        let lane = |event: &Event<In>| match event {
            Event::Message(message) => Some(message.lane()),
            _ => None,
        };
        let pair = (1..events.len()).find(|index| {
            lane(&events[index - 1]).is_some() && lane(&events[index - 1]) == lane(&events[*index])
        });
        if let Some(index) = pair {
            events.swap(index - 1, index);
        }
    }

    pub(crate) fn forgets(&mut self, answer: &Answer) -> bool {
        if !self.is(Sabotage::Forgets) {
            return false;
        }
        let Some(id) = answer.request_id() else { return false };
        *self.victim.get_or_insert(id) == id
    }

    pub(crate) fn calls(&mut self, mut calls: Vec<Tagged<Call>>) -> Vec<Tagged<Call>> {
        match self.sabotage {
            Some(Sabotage::SignsTwice) => calls.iter_mut().for_each(|call| self.alias(call)),
            Some(Sabotage::OpensTheConsole) => {
                for call in &mut calls {
                    if let Call::Issue(issue) = &mut call.body
                        && issue.profile.as_str() == super::material::CONSOLE_ONLY
                    {
                        issue.profile = super::material::name(super::material::SERVER);
                    }
                }
            }
            Some(Sabotage::ForgetsRevocations) => {
                calls = calls.into_iter().filter_map(|call| self.swallow(call)).collect();
            }
            _ => {}
        }
        calls
    }

    /// Every second revocation is acknowledged here.
    fn swallow(&mut self, call: Tagged<Call>) -> Option<Tagged<Call>> {
        let Call::Revoke { revoke, .. } = &call.body else { return Some(call) };
        self.struck += 1;
        if self.struck % 2 == 1 {
            return Some(call);
        }
        let answer = Answer::Revoked { id: revoke.id, revoked_at: super::START_UNIX_S };
        self.made_up.push(Tagged { tag: call.tag, body: Reply::Answer(answer) });
        None
    }

    /// A request that was asked before gets a name that the vault does not know.
    fn alias(&mut self, call: &mut Tagged<Call>) {
        let rename = |id: &mut RequestId, this: &mut Self| {
            let mut octets = *id.as_bytes();
            octets[0] ^= this.next_alias;
            let alias = RequestId::from_bytes(octets);
            this.aliases.insert(alias, *id);
            *id = alias;
        };
        match &mut call.body {
            Call::Known { id, .. } if !self.seen.insert(*id) => {
                self.next_alias = 0x80;
                rename(id, self);
            }
            Call::Issue(issue) if self.next_alias != 0 => rename(&mut issue.id, self),
            _ => {}
        }
    }

    pub(crate) fn replies(&mut self, mut replies: Vec<Tagged<Reply>>) -> Vec<Tagged<Reply>> {
        match self.sabotage {
            Some(Sabotage::SignsTwice) => {
                for reply in &mut replies {
                    if let Reply::Answer(Answer::Issued { id, .. } | Answer::Refused { id, .. }) =
                        &mut reply.body
                    {
                        *id = self.aliases.get(id).copied().unwrap_or(*id);
                    }
                }
            }
            Some(Sabotage::Swaps) => swap(&mut replies),
            Some(Sabotage::ForgetsRevocations) => replies.append(&mut self.made_up),
            _ => {}
        }
        replies
    }

    /// What the signer signed together.
    pub(crate) fn crls(&self, round: &mut [Crl], certificates: &Certificates) {
        let alive = |serial: &Vec<u8>, at| {
            certificates.get(serial).is_none_or(|issued| issued.not_after >= at)
        };
        let of_another = |shard| {
            let mut all = certificates.iter();
            let other = all.find(|(_, issued)| issued.shard.is_some_and(|its| its != shard));
            other.map(|(serial, _)| serial.clone())
        };
        for crl in round {
            match (self.sabotage, crl.scope) {
                (Some(Sabotage::DropsTheExpired), CrlScope::Full) => {
                    let at = crl.this_update;
                    crl.listed.retain(|serial| alive(serial, at));
                }
                (Some(Sabotage::MixesShards), CrlScope::Shard(shard)) => {
                    crl.listed.extend(of_another(shard));
                }
                (Some(Sabotage::ThinsDeltas), CrlScope::Delta) => drop(crl.listed.pop_last()),
                _ => {}
            }
        }
    }
}

fn swap(replies: &mut [Tagged<Reply>]) {
    let issued: Vec<usize> = (0..replies.len())
        .filter(|index| matches!(replies[*index].body, Reply::Answer(Answer::Issued { .. })))
        .collect();
    let [first, second, ..] = issued[..] else { return };
    let bytes = |reply: &Tagged<Reply>| match &reply.body {
        Reply::Answer(Answer::Issued { certificate, .. }) => Some(certificate.clone()),
        _ => None,
    };
    let swapped = [bytes(&replies[second]), bytes(&replies[first])];
    for (index, bytes) in [first, second].into_iter().zip(swapped) {
        if let (Reply::Answer(Answer::Issued { certificate, .. }), Some(bytes)) =
            (&mut replies[index].body, bytes)
        {
            *certificate = bytes;
        }
    }
}
