//! A pack is written, found in, read by somebody else's tool, and rots.

use std::process::Command;

use super::*;

fn serial(number: u64) -> Serial {
    Serial::from_magnitude(&(number * 7 + 1).to_be_bytes()).unwrap()
}

/// Files of many lengths, one of them with a byte that is no text.
fn content(number: u64) -> Vec<u8> {
    let mut bytes = format!("copy {number}\n").repeat(1 + number as usize % 60).into_bytes();
    bytes.push(number as u8);
    bytes
}

fn written(count: u64) -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("000001.pack");
    let all = write(&path, |pack| {
        for number in (0..count).rev() {
            pack.add(&serial(number), &content(number)).unwrap();
        }
        Ok(())
    });
    assert_eq!(all.unwrap(), count as usize);
    (scratch, path)
}

#[test]
fn every_file_is_found_byte_for_byte_and_no_other_serial_is() {
    let (_scratch, path) = written(1_000);
    let mut pack = Pack::open(&path).unwrap();
    pack.check().unwrap();
    assert_eq!(pack.count(), 1_000);
    for number in 0..1_000 {
        assert_eq!(pack.find(&serial(number)).unwrap(), Some(content(number)), "{number}");
        let next_to_it = Serial::from_magnitude(&(number * 7 + 2).to_be_bytes()).unwrap();
        assert_eq!(pack.find(&next_to_it).unwrap(), None);
    }
    let longest = Serial::from_magnitude(&[0x7f; 20]).unwrap();
    assert_eq!(pack.find(&longest).unwrap(), None);
    let mut seen = 0;
    let in_order = pack.for_each(|found, bytes| {
        let number = 999 - seen;
        assert_eq!((found, bytes.unwrap()), (&serial(number), &content(number)[..]));
        seen += 1;
        Ok(())
    });
    in_order.unwrap();
    assert_eq!(seen, 1_000);
}

#[test]
fn the_zstd_command_prints_every_copy_without_us() {
    let (_scratch, path) = written(600);
    let printed = Command::new("zstd").arg("-dc").arg(&path).output().unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let expected: Vec<u8> = (0..600).rev().flat_map(content).collect();
    assert_eq!(printed.stdout, expected);
}

#[test]
fn no_flipped_bit_and_no_cut_is_taken_for_a_good_pack() {
    let (_scratch, path) = written(20);
    let good = std::fs::read(&path).unwrap();
    let judged = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let mut pack = Pack::open(&path)?;
        let checked = pack.check();
        // Whatever a lookup finds is right, or it is a fault.
        for number in 0..20 {
            if let Ok(Some(found)) = pack.find(&serial(number)) {
                assert_eq!(found, content(number));
            }
        }
        checked
    };
    judged(&good).unwrap();
    for bit in 0..good.len() * 8 {
        let mut rotten = good.clone();
        rotten[bit / 8] ^= 1 << (bit % 8);
        assert!(judged(&rotten).is_err(), "bit {bit} of {}", good.len() * 8);
    }
    for cut in 0..good.len() {
        assert!(judged(&good[..cut]).is_err(), "cut at {cut}");
    }
    assert!(judged(&[&good[..], b"x"].concat()).is_err());
}

#[test]
fn block_that_is_broken_leaves_the_files_of_the_others() {
    let (_scratch, path) = written(600);
    let mut rotten = std::fs::read(&path).unwrap();
    rotten[100] ^= 1; // in the first block
    std::fs::write(&path, rotten).unwrap();
    let mut pack = Pack::open(&path).unwrap();
    let (mut good, mut bad) = (0, 0);
    pack.for_each(|_, content| {
        match content {
            Ok(_) => good += 1,
            Err(fault) => {
                assert!(fault.to_string().contains("its block 0 is broken"), "{fault}");
                bad += 1;
            }
        }
        Ok(())
    })
    .unwrap();
    assert_eq!((good, bad), (600 - BLOCK_FILES, BLOCK_FILES));
}

#[test]
fn nothing_to_pack_makes_no_pack() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("000001.pack");
    assert_eq!(write(&path, |_| Ok(())).unwrap(), 0);
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    let fault = Fault::Internal("enough".into());
    assert!(write(&path, |_| Err(fault)).unwrap_err().to_string().contains("enough"));
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}
