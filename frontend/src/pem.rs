//! PEM (RFC 7468): reading the only block of a text, writing one.
//!
//! Text around the block is allowed, a second block is not. Nothing here looks inside.

use openssl::base64;

/// Whether the bytes are meant as PEM.
pub fn looks_like_pem(bytes: &[u8]) -> bool {
    count(bytes, b"-----BEGIN ") > 0
}

/// The content of the only block in `bytes`, whose label must be one of `labels`.
pub fn only_block(bytes: &[u8], labels: &[&str]) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    match count(bytes, b"-----BEGIN ") {
        0 => return Err("there is no BEGIN line".to_owned()),
        1 => {}
        blocks => return Err(format!("it has {blocks} blocks where one is expected")),
    }
    let begin = text.find("-----BEGIN ").unwrap_or(0);
    let after = &text[begin + "-----BEGIN ".len()..];
    let (label, rest) = after.split_once("-----").ok_or("its BEGIN line is broken")?;
    if !labels.contains(&label) {
        return Err(format!("its block is a {label}, not a {}", labels[0]));
    }
    let end = format!("-----END {label}-----");
    let (body, _) = rest.split_once(&end).ok_or("its END line is missing")?;
    let digits: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    base64::decode_block(&digits).map_err(|_| "it is no base64".to_owned())
}

/// `der` as one block.
pub fn write(label: &str, der: &[u8]) -> String {
    let digits = base64::encode_block(der);
    let mut text = String::with_capacity(digits.len() + digits.len() / 64 + 64);
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = &digits[..];
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

fn count(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).filter(|window| *window == needle).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_for_every_length() {
        for length in 0..200 {
            let der: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let text = write("X509 CRL", &der);
            assert!(text.lines().all(|line| line.len() <= 64));
            if length > 0 {
                assert_eq!(only_block(text.as_bytes(), &["X509 CRL"]).unwrap(), der);
            }
        }
    }

    #[test]
    fn a_second_block_another_label_and_a_lost_end_are_refused() {
        let text = write("CERTIFICATE", b"abc");
        assert!(only_block(text.repeat(2).as_bytes(), &["CERTIFICATE"]).is_err());
        assert!(only_block(text.as_bytes(), &["X509 CRL"]).is_err());
        assert!(only_block(&text.as_bytes()[..text.len() - 8], &["CERTIFICATE"]).is_err());
        let around = format!("subject=x\n{text}trailing text\n");
        assert_eq!(only_block(around.as_bytes(), &["CERTIFICATE"]).unwrap(), b"abc");
    }
}
