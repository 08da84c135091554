//! Adapters that come back under another name, and programs that find their place taken.

use super::*;

#[test]
fn an_adapter_plugged_in_again_under_a_new_device_name_is_found_by_its_path() {
    // As udev(7) does it: the path under by-id is a symlink, and the device behind it is new.
    let mut bench = Bench::on_ptys_as("serial", "by-id", "");
    bench.exchange(1);
    for round in 2..5 {
        bench.log.clear();
        let old = std::mem::take(&mut bench.masters);
        let names = |masters: &[PtyMaster]| {
            masters.iter().map(|master| ptsname_r(master).unwrap()).collect::<Vec<_>>()
        };
        let old_names = names(&old);
        // The new ones are there before the old ones are gone, so they have other names.
        bench.plug_in();
        assert!(names(&bench.masters).iter().all(|name| !old_names.contains(name)));
        drop(old);
        bench.exchange(round);
        assert!(bench.log.contains(&"frontend opened".to_owned()), "{:?}", bench.log);
    }
}

#[test]
fn a_path_that_names_another_device_is_followed_though_the_old_one_gives_no_error() {
    let mut bench = Bench::on_ptys_as("serial", "moved", "");
    bench.exchange(1);
    // The old device lives on, and nobody is at its other end any more.
    let abandoned = std::mem::take(&mut bench.masters);
    bench.plug_in();
    bench.exchange(2);
    drop(abandoned);
}

#[test]
fn a_path_that_names_nothing_for_a_while_does_not_end_a_connection() {
    let mut bench = Bench::on_ptys_as("serial", "vanished", "");
    bench.exchange(1);
    bench.log.clear();
    for end in ["a", "b"] {
        fs::remove_file(bench.scratch.path(end)).unwrap();
    }
    let start = time::Instant::now();
    bench.run_until("three looks", |_| start.elapsed() > Duration::from_secs(3));
    bench.exchange(2);
    assert!(bench.log.is_empty(), "{:?}", bench.log);
}

#[test]
fn a_second_frontend_at_a_socket_is_told_and_takes_over_when_the_first_is_gone() {
    let mut bench = Bench::on_socket("told");
    bench.exchange(1);
    bench.log.clear();
    let mut second: Cable<Request, Answer> =
        open(bench.frontend.spec().clone(), Side::Frontend, 77);
    let mut told = Vec::new();
    bench.run_until("the second is told", |_| {
        second.turn();
        while let Some(event) = second.poll_event() {
            told.push(format!("{event:?}"));
        }
        told.len() == 2
    });
    assert_eq!(told, ["Opened", "Session(Occupied)"]);
    // It goes on waiting, and the first one does not notice.
    let start = time::Instant::now();
    bench.run_until("some hellos", |_| {
        second.turn();
        start.elapsed() > Duration::from_secs(3)
    });
    bench.exchange(2);
    assert_eq!((second.is_up(), second.poll_event().is_some()), (false, false));
    assert!(bench.log.is_empty(), "{:?}", bench.log);

    // Three others come and go; only the second is there when the first ends.
    for boot_id in 80..83 {
        drop(open::<Request, Answer>(bench.frontend.spec().clone(), Side::Frontend, boot_id));
    }
    std::mem::swap(&mut bench.frontend, &mut second);
    drop(second);
    let gone_at = time::Instant::now();
    bench.exchange(3);
    assert!(gone_at.elapsed() < Duration::from_secs(5), "{:?}", gone_at.elapsed());
}

#[test]
fn a_crowd_at_the_socket_does_not_disturb_who_is_connected() {
    let mut bench = Bench::on_socket("crowd");
    bench.exchange(1);
    bench.log.clear();
    let PortSpec::Unix { path } = bench.signer.spec().clone() else { unreachable!() };
    let mut crowd = Vec::new();
    for number in 0..40u8 {
        if let Ok(mut socket) = std::os::unix::net::UnixStream::connect(&path) {
            socket.set_nonblocking(true).unwrap();
            // Bytes without end, as far as they are taken.
            while socket.write(&[number; 4096]).is_ok() {}
            crowd.push(socket);
        }
        bench.run_until("a turn", |_| true);
    }
    bench.exchange(2);
    assert!(bench.log.is_empty(), "{:?}", bench.log);
}
