//! Calls that come while signatures are under way.
//!
//! A turn never waits for a signature, so what the first turn started is under way when the second
//! begins, however fast the signing threads are: nothing is recorded but by a turn.

use std::path::Path;

use super::*;

fn issue(tag: u64, request: &Issue) -> Tagged<Call> {
    Tagged { tag, body: Call::Issue(Box::new(request.clone())) }
}

fn known(tag: u64, id: RequestId, digest: Digest) -> Tagged<Call> {
    Tagged { tag, body: Call::Known { id, digest } }
}

fn by_tag(replies: Vec<Tagged<Reply>>) -> BTreeMap<u64, Reply> {
    let count = replies.len();
    let by_tag: BTreeMap<_, _> = replies.into_iter().map(|reply| (reply.tag, reply.body)).collect();
    assert_eq!(by_tag.len(), count, "each call has one reply");
    by_tag
}

fn issued(reply: &Reply) -> Vec<u8> {
    match reply {
        Reply::Answer(answer) => certificate(answer).to_der().unwrap(),
        other => panic!("a certificate was expected: {other:?}"),
    }
}

impl Story {
    fn turn(&mut self, calls: Vec<Tagged<Call>>) -> Vec<Tagged<Reply>> {
        let now = self.now;
        self.vault().turn(now, calls).unwrap()
    }

    fn rest(&mut self) -> Vec<Tagged<Reply>> {
        let now = self.now;
        self.vault().handle(now, Vec::new()).unwrap()
    }
}

#[test]
fn request_that_comes_again_while_it_is_signed_is_signed_once_and_both_are_answered() {
    let mut story = Story::new();
    let request = story.request("a.example.org");
    let other = Digest::of(b"another body");
    assert!(story.turn(vec![issue(1, &request)]).is_empty(), "nothing is answered unrecorded");
    let mut replies = story.turn(vec![
        known(2, request.id, request.digest),
        known(3, request.id, other),
        issue(4, &request),
    ]);
    replies.extend(story.rest());
    let replies = by_tag(replies);
    assert_eq!(replies.len(), 4);
    let first = issued(&replies[&1]);
    assert_eq!([issued(&replies[&2]), issued(&replies[&4])], [first.clone(), first]);
    let Reply::Answer(answer) = &replies[&3] else { panic!("{:?}", replies[&3]) };
    assert_eq!(code(answer), RefusalCode::RequestReused);
    assert_eq!(story.index().lines().count(), 1, "one signature, one line");
    assert_eq!(story.findings(), Vec::<String>::new());
}

#[test]
fn what_a_gate_that_is_gone_asked_for_is_finished_and_told_to_nobody() {
    let mut story = Story::new();
    let request = story.request("a.example.org");
    assert!(story.turn(vec![issue(1, &request)]).is_empty());
    story.vault().forget_callers();
    // The next gate counts its tags from the start again.
    let status = Tagged { tag: 1, body: Call::Status };
    let mut replies = story.turn(vec![status]);
    replies.extend(story.rest());
    let replies = by_tag(replies);
    assert!(matches!(replies[&1], Reply::Answer(Answer::Status(_))), "{replies:?}");
    assert_eq!(replies.len(), 1);
    assert_eq!(story.index().lines().count(), 1);
    let answered = by_tag(story.turn(vec![known(2, request.id, request.digest)]));
    issued(&answered[&2]);
}

#[test]
fn signature_under_way_when_the_clock_is_set_back_is_recorded_once_when_it_is_right_again() {
    let mut story = Story::new();
    let request = story.request("a.example.org");
    assert!(story.turn(vec![issue(1, &request)]).is_empty());
    story.now.unix_us -= 3_600_000_000;
    let late = story.request("b.example.org");
    let replies = by_tag(story.turn(vec![issue(2, &late)]));
    assert!(matches!(replies[&2], Reply::NotNow), "{replies:?}");
    assert_eq!(replies.len(), 1);
    assert!(story.vault().bell().is_none(), "the bell would ring without end");
    story.later(3_601);
    let replies = by_tag(story.rest());
    issued(&replies[&1]);
    assert_eq!(story.index().lines().count(), 1);
    assert_eq!(story.findings(), Vec::<String>::new());
}

// Found by a swarm seed: the daily CRL is signed, and the clock set back before anything else.
#[test]
fn clock_that_is_set_back_behind_a_crl_just_signed_lets_requests_wait_and_stops_nothing() {
    let mut story = Story::new();
    story.later(2 * 86_400);
    let now = story.now;
    story.vault().tick(now).unwrap();
    story.now.unix_us -= 3_600_000_000;
    let request = story.request("a.example.org");
    let replies = by_tag(story.turn(vec![issue(1, &request)]));
    assert!(matches!(replies[&1], Reply::NotNow), "{replies:?}");
    story.later(3_601);
    certificate(&story.issue(request));
}

// The vault looks once a second what the console signed; here it has not looked yet.
#[test]
fn clock_that_is_set_back_behind_what_the_console_just_signed_lets_requests_wait_and_stops_nothing()
{
    let mut story = Story::new();
    let earlier = story.vault().floor.0 - 7_200;
    story.console(&["crl", "sign", "root"]).unwrap();
    story.vault().floor.0 = earlier;
    story.now.unix_us -= 3_600_000_000;
    let request = story.request("a.example.org");
    let replies = by_tag(story.turn(vec![issue(1, &request)]));
    assert!(matches!(replies[&1], Reply::NotNow), "{replies:?}");
    story.later(3_601);
    certificate(&story.issue(request));
}

#[test]
fn signatures_under_way_at_a_stop_are_finished_by_the_next_start() {
    let mut story = Story::new();
    let requests: Vec<Issue> =
        (0..20).map(|n| story.request(&format!("h{n}.example.org"))).collect();
    let calls = requests.iter().zip(1..).map(|(request, tag)| issue(tag, request)).collect();
    assert!(story.turn(calls).is_empty());
    story.start(); // whatever the threads were at is lost
    assert_eq!(story.index().lines().count(), 20);
    for request in &requests {
        issued(&by_tag(story.turn(vec![known(1, request.id, request.digest)]))[&1]);
    }
    assert_eq!(story.findings(), Vec::<String>::new());
}

#[test]
fn certificate_under_way_in_a_restored_backup_is_the_one_that_was_handed_out_if_it_is_brought_back()
{
    let mut story = Story::new();
    let request = story.request("a.example.org");
    assert!(story.turn(vec![issue(1, &request)]).is_empty());
    story.vault = None;
    let backup = story.scratch.path().join("backup");
    copy_tree(&story.store(), &backup);
    story.start();
    let again = |story: &mut Story| {
        issued(&by_tag(story.turn(vec![known(1, request.id, request.digest)]))[&1])
    };
    let handed_out = again(&mut story);
    let serial = serial_of(&X509::from_der(&handed_out).unwrap());
    let copy = format!("newcerts/{serial}.pem");
    let (index, pem) = (story.index(), fs::read(story.file(&copy)).unwrap());

    // An old backup is restored, and a person does what the runbook says.
    story.vault = None;
    fs::remove_dir_all(story.store()).unwrap();
    copy_tree(&backup, &story.store());
    fs::write(story.file("index.txt"), &index).unwrap();
    for other in [None, Some(fs::read(story.file("ca.crt")).unwrap())] {
        if let Some(other) = other {
            fs::write(story.file(&copy), other).unwrap();
        }
        story.open().unwrap_err();
    }
    fs::remove_file(story.file(&copy)).unwrap();
    let text = story.open().unwrap_err().to_string();
    assert!(text.contains("is under way here") && text.contains("take the line out"), "{text}");
    fs::write(story.file(&copy), &pem).unwrap();
    story.start();
    assert_eq!(again(&mut story), handed_out);
    assert_eq!((story.index(), fs::read(story.file(&copy)).unwrap()), (index, pem));
    assert_eq!(story.findings(), Vec::<String>::new());
}

fn copy_tree(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

#[test]
fn captured_gate_cannot_fill_the_vault_with_calls() {
    let mut story = Story::new();
    let mut answered = 0;
    for round in 0..40 {
        let room = story.vault().room();
        assert!(room <= BATCH_MAX);
        let calls = (0..room).map(|number| {
            let request = story.request(&format!("h{round}-{number}.example.org"));
            issue(number as u64, &request)
        });
        let calls = calls.collect();
        answered += story.turn(calls).len();
        let vault = story.vault();
        assert!(vault.inbox.len() <= BATCH_MAX, "{}", vault.inbox.len());
        // What is being signed: a batch, and what was enough before it.
        assert!(vault.pool.in_hand() <= 3 * BATCH_MAX, "{}", vault.pool.in_hand());
        if answered > 600 {
            break;
        }
    }
    story.rest();
    assert_eq!(story.vault().waiting.count, 0);
}

#[test]
fn captured_gate_that_asks_for_one_answer_without_end_gets_a_bounded_number() {
    let mut story = Story::new();
    let request = story.request("a.example.org");
    let mut replies = story.turn(vec![issue(0, &request)]);
    let calls = (1..=5000).map(|tag| known(tag, request.id, request.digest)).collect();
    replies.extend(story.turn(calls));
    replies.extend(story.rest());
    let replies = by_tag(replies);
    assert_eq!(replies.len(), 5001);
    let answers = replies.values().filter(|reply| matches!(reply, Reply::Answer(_))).count();
    assert_eq!(answers, WAITING_MAX);
    issued(&replies[&0]);
    assert_eq!(story.vault().waiting.count, 0);
}
