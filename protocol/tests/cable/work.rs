//! What the two programs do with their sessions, in small: ask until answered, answer what comes.

use std::collections::BTreeSet;

use crate::support::{LINE_RATE, Pair, Random};
use protocol::{
    message::{Answer, IssueCertificate, Request, RequestId},
    time::Duration,
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const PACED: Option<u32> = Some(LINE_RATE);

pub(crate) fn id(number: u64) -> RequestId {
    let mut octets = [0; 16];
    octets[8..].copy_from_slice(&number.to_be_bytes());
    RequestId::from_bytes(octets)
}

/// About the size and the compressibility of a real CSR.
pub(crate) fn issue(number: u64, length: usize) -> Request {
    Request::Issue(IssueCertificate {
        form: protocol::message::CsrForm::Pkcs10,
        id: id(number),
        authority: "issuing".parse().unwrap(),
        profile: "server".parse().unwrap(),
        days: Some(90),
        subject: None,
        subject_alt_names: None,
        csr: Random(number).bytes(length).try_into().unwrap(),
    })
}

pub(crate) fn answer(request: &Request) -> Option<Answer> {
    let Request::Issue(issue) = request else { return None };
    let mut certificate = issue.csr.to_vec();
    certificate.extend(Random(7).bytes(500));
    Some(Answer::Issued { id: issue.id, certificate: certificate.try_into().unwrap() })
}

/// The two programs in small: the frontend asks until it is answered, the signer answers.
pub(crate) struct Work {
    pub(crate) pair: Pair,
    pub(crate) open: BTreeSet<u64>,
    pub(crate) lengths: Vec<usize>,
    pub(crate) answered: usize,
    pub(crate) asked_in: usize,
    pub(crate) served: usize,
    pub(crate) heard: usize,
    /// The signer's connection and the number of the last request in it.
    pub(crate) last_served: (usize, Option<u64>),
}

impl Work {
    pub(crate) fn new(pair: Pair, requests: u64, random: &mut Random) -> Self {
        Self {
            pair,
            open: (0..requests).collect(),
            lengths: (0..requests).map(|_| 1 + random.below(2000) as usize).collect(),
            answered: 0,
            asked_in: 0,
            served: 0,
            heard: 0,
            last_served: (0, None),
        }
    }

    /// What the programs do after the sessions moved.
    pub(crate) fn turn(&mut self) {
        let pair = &mut self.pair;
        if pair.frontend.ups != self.asked_in && pair.frontend.session.is_up() {
            self.asked_in = pair.frontend.ups;
            for number in &self.open {
                let request = issue(*number, self.lengths[*number as usize]);
                pair.frontend.session.send(pair.now, &request).unwrap();
            }
        }
        while let Some(request) = pair.signer.heard.get(self.served) {
            let Request::Issue(issue) = request else { panic!("{request:?} was never sent") };
            let number = u64::from_be_bytes(issue.id.as_bytes()[8..].try_into().unwrap());
            assert_eq!(*issue.csr, Random(number).bytes(self.lengths[number as usize]));
            // Within a connection each request once, and in the order of sending.
            let connection = pair.signer.heard_in[self.served];
            let (last_connection, last_number) = self.last_served;
            assert!(connection != last_connection || Some(number) > last_number);
            self.last_served = (connection, Some(number));
            // An answer to a connection that ended meanwhile is lost; the frontend asks again.
            pair.signer.session.send(pair.now, &answer(request).unwrap()).ok();
            self.served += 1;
        }
        while let Some(heard) = pair.frontend.heard.get(self.heard) {
            let Answer::Issued { id, .. } = heard else { panic!("{heard:?} was never sent") };
            let number = u64::from_be_bytes(id.as_bytes()[8..].try_into().unwrap());
            let request = issue(number, self.lengths[number as usize]);
            assert_eq!(Some(heard), answer(&request).as_ref());
            self.answered += usize::from(self.open.remove(&number));
            self.heard += 1;
        }
    }

    /// Lets `time` pass, or less if everything is answered.
    pub(crate) fn drive(&mut self, time: Duration) -> bool {
        let end = self.pair.now + time;
        while self.pair.now < end && !self.open.is_empty() {
            self.pair.step(end);
            self.turn();
        }
        self.open.is_empty()
    }
}
