//! CSRs and keys made by the tools that people use, good ones and bad ones.

use std::fs;

use anyhow::{Result, ensure};

use crate::World;

impl World {
    /// A CSR for this subject with a new key (`rsa:2048`, `ec:P-256`, ...), its path.
    pub fn csr(&self, name: &str, key: &str, subject: &str) -> Result<String> {
        self.csr_with(name, key, subject, &[])
    }

    /// The same with further options for `openssl req`.
    pub fn csr_with(
        &self,
        name: &str,
        key: &str,
        subject: &str,
        options: &[&str],
    ) -> Result<String> {
        let key_file = self.key(name, key)?;
        let file = self.file(&format!("{name}.csr"));
        let words = ["req", "-new", "-key", &key_file, "-subj", subject, "-out", &file, "-utf8"];
        let words: Vec<&str> = words.into_iter().chain(options.iter().copied()).collect();
        self.openssl(&words)?;
        Ok(file)
    }

    /// An SPKAC of a new key as `openssl spkac` writes it, with these further lines; its path.
    pub fn spkac(&self, name: &str, key: &str, digest: &str, lines: &str) -> Result<String> {
        let (key_file, file) = (self.key(name, key)?, self.file(&format!("{name}.spkac")));
        let words = ["spkac", "-key", &key_file, "-challenge", "hello", "-digest", digest];
        self.openssl(&[&words[..], &["-out", &file]].concat())?;
        let spkac = fs::read_to_string(&file)?;
        fs::write(&file, format!("{}\n{lines}", spkac.trim_end()))?;
        Ok(file)
    }

    /// The default profile `like` with this text in the place of that, as a profile of `issuing`
    /// that the signer reads at its next start.
    pub fn profile(&self, name: &str, like: &str, changes: &[(&str, &str)]) -> Result<()> {
        let path = |name: &str| self.authority("issuing", &format!("profiles/{name}.toml"));
        let mut text = fs::read_to_string(path(like))?;
        for (old, new) in changes {
            ensure!(text.contains(old), "profile {like} has no `{old}`");
            text = text.replacen(old, new, 1);
        }
        fs::write(path(name), text)?;
        Ok(())
    }

    /// A new private key (`rsa:BITS` or `ec:CURVE`), its path.
    pub fn key(&self, name: &str, kind: &str) -> Result<String> {
        let file = self.file(&format!("{name}.key"));
        let option = match kind.split_once(':') {
            Some(("rsa", bits)) => ["RSA".to_owned(), format!("rsa_keygen_bits:{bits}")],
            Some(("ec", curve)) => ["EC".to_owned(), format!("ec_paramgen_curve:{curve}")],
            _ => anyhow::bail!("a key is rsa:BITS or ec:CURVE, not {kind}"),
        };
        self.openssl(&[
            "genpkey",
            "-algorithm",
            &option[0],
            "-pkeyopt",
            &option[1],
            "-out",
            &file,
        ])?;
        Ok(file)
    }

    /// A new OpenPGP key made by gpg for these user IDs; the path of the exported public key.
    pub fn openpgp_key(&self, name: &str, user_ids: &[&str]) -> Result<String> {
        let Some((first, further)) = user_ids.split_first() else {
            anyhow::bail!("an OpenPGP key has a user ID");
        };
        let batch = ["--batch", "--passphrase", "", "--pinentry-mode", "loopback"];
        let generate = ["--quick-gen-key", first, "ed25519", "sign", "2y"];
        self.gpg(&[&batch[..], &generate].concat())?;
        for user_id in further {
            let add = ["--quick-add-uid", &format!("={first}"), user_id];
            self.gpg(&[&batch[..], &add].concat())?;
        }
        let file = self.file(&format!("{name}.asc"));
        self.gpg(&["--armor", "--output", &file, "--export", &format!("={first}")])?;
        Ok(file)
    }

    /// Runs `gpg` with the scratch folder's keyring; it must end well.
    pub fn gpg(&self, words: &[&str]) -> Result<String> {
        let words: Vec<&str> =
            ["--batch", "--yes", "--no-tty"].into_iter().chain(words.iter().copied()).collect();
        let ended = self.tool("gpg", &words)?.done()?;
        Ok(ended.text())
    }

    /// Puts the signer's OpenPGP key into gpg's keyring, so that gpg can judge its signatures.
    pub fn import_signers_openpgp_key(&self) -> Result<()> {
        self.gpg(&["--import", &self.openpgp_authority("openpgp")]).map(drop)
    }

    /// The serial number of a certificate, as `openssl` writes it.
    pub fn serial_of(&self, certificate: &str) -> Result<String> {
        let text = self.openssl(&["x509", "-in", certificate, "-noout", "-serial"])?.text();
        Ok(text.trim().trim_start_matches("serial=").to_owned())
    }
}

/// The user IDs that carry a good certification by `signer`, in the output of
/// `gpg --with-colons --check-sigs`.
pub fn good_certifications(listing: &str, signer: &str) -> Vec<String> {
    let mut certified = Vec::new();
    let mut user_id = String::new();
    for line in listing.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let name = || fields.get(9).map(|name| name.replace("\\x3a", ":")).unwrap_or_default();
        match fields[0] {
            "pub" => user_id.clear(),
            "uid" => user_id = name(),
            // The second field is the verdict: `!` good, `-` bad, `?` key missing, `%` error.
            "sig" if fields.get(1) == Some(&"!") && name() == signer && !user_id.is_empty() => {
                certified.push(user_id.clone());
            }
            _ => {}
        }
    }
    certified
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_good_certification_by_the_signer_counts() {
        let listing = "pub:u:255:22:AA:1:::u:::scSC::::::23::0:\n\
            uid:u::::1::B::One <1@example.org>::::::::::0:\n\
            sig:!::22:AA:1::::One <1@example.org>:13x::::::10:\n\
            sig:!::22:CC:1::::The Signer:10x::::::10:\n\
            uid:u::::1::C::Two <2@example.org>::::::::::0:\n\
            sig:-::22:CC:1::::The Signer:10x::::::10:\n";
        assert_eq!(good_certifications(listing, "The Signer"), ["One <1@example.org>"]);
    }
}
