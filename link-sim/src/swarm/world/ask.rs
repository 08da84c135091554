//! What people ask for, well and badly, through the queue and past it.

use protocol::{
    bounded::{Bytes, List},
    message::{
        CsrForm, GeneralName, IssueCertificate, Message, OpenPgpReason, RefusalCode, Request,
        RevocationReason, Revoke, Serial,
    },
};

use super::{
    super::{
        material::{self, BREAKS_THE_WORKER, CONSOLE_ONLY, ISSUING, ROOT, SERVER},
        openpgp::PEOPLE,
    },
    Expected, Held, Random, RequestId, World, id,
};

impl World {
    pub(super) fn ask_for_certificates(&mut self, count: u8, number: u64) -> Held {
        let mut random = Random::new(number);
        let mut requests = Vec::new();
        for _ in 0..count {
            let csrs = material::csrs();
            let nth = random.below(csrs.len() as u64) as usize;
            // Many of a day: outages outlast them, and what expired may leave the CRLs.
            let days = random.chance(0.4).then(|| match random.chance(0.6) {
                true => 1,
                false => 1 + random.below(40) as u32,
            });
            let named = random.chance(0.5);
            let mut issue = issue_request(random.next_u64(), csrs[nth].clone());
            issue.days = days;
            if named {
                let another = format!("dns:h{}.example.org", random.below(1_000_000));
                issue.subject_alt_names = names(&[material::name_in_csr(nth), another]);
            }
            requests.push((Request::Issue(issue), Expected::Issued));
        }
        self.queue(requests)
    }

    pub(super) fn ask_badly(&mut self, how: u8, number: u64) -> Held {
        let mut random = Random::new(number);
        let nth = random.below(4) as usize;
        let mut issue = issue_request(random.next_u64(), material::csrs()[nth].clone());
        let expected = match how % 11 {
            0 => {
                issue.profile = material::name(CONSOLE_ONLY);
                Expected::Refused(RefusalCode::ProfileConsoleOnly)
            }
            1 => {
                issue.authority = material::name(ROOT);
                issue.profile = material::name(CONSOLE_ONLY);
                Expected::RefusedSomehow
            }
            2 => {
                issue.authority = material::name("nobody");
                Expected::Refused(RefusalCode::AuthorityUnknown)
            }
            3 => {
                issue.profile = material::name("nothing");
                Expected::Refused(RefusalCode::ProfileUnknown)
            }
            4 => {
                issue.days = Some(65_535);
                Expected::Refused(RefusalCode::Validity)
            }
            5 => {
                let mut csr = issue.csr.into_vec();
                let at = random.below(csr.len() as u64) as usize;
                csr[at] ^= 1 << random.below(8);
                issue.csr = bytes(csr);
                Expected::RefusedSomehow
            }
            6 => {
                issue.csr = bytes(BREAKS_THE_WORKER.to_vec());
                Expected::Quarantined
            }
            7 => {
                let id = issue.id;
                let serial = Serial::from_magnitude(&number.to_be_bytes());
                let Ok(serial) = serial else { return Ok(()) };
                let revoke = revocation(id, serial);
                let refused = Expected::Refused(RefusalCode::SerialUnknown);
                return self.queue(vec![(Request::Revoke(revoke), refused)]);
            }
            8 => {
                let certify = PEOPLE[nth].asks_for(issue.id, &["Somebody <else@example.org>"]);
                let refused = Expected::Refused(RefusalCode::OpenPgpUserId);
                return self.queue(vec![(Request::Certify(certify), refused)]);
            }
            9 => {
                let mut certify = PEOPLE[nth].asks_for(issue.id, &PEOPLE[nth].user_ids);
                certify.days = Some(5_000);
                let refused = Expected::Refused(RefusalCode::Validity);
                return self.queue(vec![(Request::Certify(certify), refused)]);
            }
            _ => {
                let mail = "email:somebody@example.org".to_owned();
                issue.subject_alt_names = names(&[material::name_in_csr(nth), mail]);
                Expected::Refused(RefusalCode::NameRule)
            }
        };
        self.queue(vec![(Request::Issue(issue), expected)])
    }

    pub(super) fn ask_to_revoke(&mut self, nth: u64, number: u64) -> Held {
        let Some(serial) = self.oracle.nth_issued(nth).cloned() else { return Ok(()) };
        let revoke = revocation(id(number), serial);
        self.queue(vec![(Request::Revoke(revoke), Expected::Revoked)])
    }

    pub(super) fn ask_to_certify(&mut self, number: u64) -> Held {
        let mut random = Random::new(number);
        let person = &PEOPLE[random.below(PEOPLE.len() as u64) as usize];
        let [one, other] = person.user_ids;
        let user_ids = [&[one][..], &[other], &[one, other], &[other, one]];
        let user_ids = user_ids[random.below(4) as usize];
        let mut certify = person.asks_for(id(random.next_u64()), user_ids);
        certify.days = random.chance(0.4).then(|| 1 + random.below(40) as u32);
        certify.renew = random.chance(0.2);
        self.queue(vec![(Request::Certify(certify), Expected::Certified)])
    }

    pub(super) fn ask_to_take_back(&mut self, number: u64) -> Held {
        let mut random = Random::new(number);
        let person = &PEOPLE[random.below(PEOPLE.len() as u64) as usize];
        let user_id = random.chance(0.7).then(|| person.user_ids[random.below(2) as usize]);
        let revoke = person.is_taken_back(id(random.next_u64()), user_id);
        self.queue(vec![(Request::RevokeOpenPgp(revoke), Expected::TakenBack)])
    }

    pub(super) fn queue(&mut self, requests: Vec<(Request, Expected)>) -> Held {
        let Some(frontend) = &mut self.frontend else { return Ok(()) };
        let bodies: Vec<Request> = requests.iter().map(|row| row.0.clone()).collect();
        frontend.queue(&bodies, self.now)?;
        for (request, expected) in &requests {
            self.oracle.asked(request, *expected);
        }
        Ok(())
    }

    /// A request goes out that the carrier did not send. With another body it may only be one
    /// that has its outcome: its refusal would count for the one that is under way.
    pub(super) fn send_past_the_queue(&mut self, nth: u64, other_body: bool) {
        let Some(asked) = self.oracle.nth_asked(nth) else { return };
        let mut request = asked.request.clone();
        if other_body {
            let id = request.request_id();
            let Some(id) = id.filter(|id| self.oracle.is_finished(*id)) else { return };
            self.oracle.disputed.insert(id);
            match &mut request {
                Request::Issue(issue) => issue.days = Some(issue.days.unwrap_or(1) + 1),
                Request::Revoke(revoke) => revoke.reason = RevocationReason::Superseded,
                Request::Certify(certify) => certify.renew = !certify.renew,
                Request::RevokeOpenPgp(revoke) => revoke.reason = OpenPgpReason::Unspecified,
                _ => return,
            }
        }
        if let Some(frontend) = &mut self.frontend
            && frontend.send_raw(self.now, &request)
        {
            self.to_signer.arriving.sent(&request);
        }
    }
}

pub(super) fn issue_request(number: u64, csr: Vec<u8>) -> IssueCertificate {
    IssueCertificate {
        id: id(number),
        authority: material::name(ISSUING),
        profile: material::name(SERVER),
        days: None,
        subject: None,
        subject_alt_names: None,
        form: CsrForm::Pkcs10,
        csr: bytes(csr),
    }
}

pub(super) fn revocation(id: RequestId, serial: Serial) -> Revoke {
    let authority = material::name(ISSUING);
    Revoke { id, authority, serial, reason: RevocationReason::KeyCompromise }
}

fn bytes<const N: usize>(bytes: Vec<u8>) -> Bytes<N> {
    bytes.try_into().expect("what the swarm asks with is short")
}

fn names<const N: usize>(names: &[String]) -> Option<List<GeneralName, N>> {
    let names = names.iter().map(|name| name.parse().expect("a literal name"));
    List::try_from(names.collect::<Vec<_>>()).ok()
}
