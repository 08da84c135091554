//! `cacert_tree DIR LINES`: grows an old tree of any size, for measuring `signer adopt` by hand.
//!
//! It writes under DIR only, which must not hold a tree yet.

use std::path::Path;

use anyhow::{Context, Result, bail};
use tests::cacert_tree::OldTree;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [directory, lines] = words.as_slice() else {
        bail!("usage: cacert_tree DIR LINES, for example cacert_tree /tmp/old 350000");
    };
    let lines = lines.parse().context("LINES is a number")?;
    let tree = OldTree::grow(Path::new(directory), lines)?;
    for number in 0..tree.authorities.len() {
        tree.sign_crl(number)?;
    }
    println!("--ssl {} --commmodule {}", tree.ssl.display(), tree.commmodule.display());
    Ok(())
}
