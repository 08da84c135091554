//! Lines of `index.txt`, which people and `openssl ca` write too.

use signer::authority::index;

/// A line that is understood is written back byte for byte.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for line in text.split('\n') {
        match index::parse(line) {
            Ok(row) => assert_eq!(index::line(&row).strip_suffix('\n'), Some(line)),
            Err(why) => assert!(!why.is_empty()),
        }
    }
}
