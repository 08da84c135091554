//! The frontend's reader of CRLs.

use frontend::crl::list;
use protocol::message::Digest;

/// What is understood says of itself what can be counted in it.
pub fn run(bytes: &[u8]) {
    let Ok(facts) = list::inspect(bytes) else {
        assert!(list::serials(bytes).is_err());
        return;
    };
    assert_eq!(facts.length, bytes.len() as u64);
    assert_eq!(facts.digest, Digest::of(bytes));
    if let Ok(serials) = list::serials(bytes) {
        // A serial may stand twice.
        assert!(serials.len() as u64 <= facts.entries);
    }
}
