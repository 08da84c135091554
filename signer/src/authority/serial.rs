//! The serial numbers of ours: a counter that rises, and random octets that nobody can foresee.
//!
//! Which counter is next the ledger says, never this room.

use protocol::message::{NotASerial, Serial};

use crate::fault::Fault;

/// The 16-octet serial of design §4: 8 octets of counter, 8 random octets, first bit 0.
pub fn serial(counter: u64, random: [u8; 8]) -> Result<Serial, Fault> {
    let exhausted = |_: NotASerial| Fault::Internal("the serial counter is exhausted".into());
    if counter >> 63 != 0 {
        return Err(exhausted(NotASerial));
    }
    let mut octets = counter.to_be_bytes().to_vec();
    octets.extend_from_slice(&random);
    Serial::from_magnitude(&octets).map_err(exhausted)
}

/// The counter in a serial of ours; other serials have none.
pub fn serial_counter(serial: &Serial) -> Option<u64> {
    let octets = serial.as_octets();
    // Leading zero octets of the counter are not in the encoding.
    let high = octets.len().checked_sub(8)?;
    if high > 8 {
        return None;
    }
    Some(octets[..high].iter().fold(0, |sum, octet| (sum << 8) | u64::from(*octet)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_has_a_rising_counter_above_random_octets() {
        let one = serial(1 << 62, [0xff; 8]).unwrap();
        let two = serial((1 << 62) + 1, [0; 8]).unwrap();
        assert!(two > one);
        assert_eq!(one.as_octets().len(), 16);
        assert_eq!(serial_counter(&two), Some((1 << 62) + 1));
        assert!(serial(1 << 63, [0; 8]).is_err(), "the first bit stays 0");
        assert_eq!(serial_counter(&"01".parse().unwrap()), None, "not one of ours");
    }
}
