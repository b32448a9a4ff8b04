//! Computes where a Web Key Directory has the certificate of an address (draft-koch-openpgp-webkey-service, section
//! 3.1).

use openssl::sha::sha1;

use crate::policy::is_address;

/// The alphabet of z-base-32: five bits a letter, easy to read aloud.
const LETTERS: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";

/// The places where the certificate of an address may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDirectory {
    /// The address's domain, in lower case.
    pub domain: String,
    /// The path and query at the host `openpgpkey.<domain>`, which is asked first.
    pub advanced: String,
    /// The path and query at the domain's own host.
    pub direct: String,
}

impl KeyDirectory {
    /// The directory of `address`; `None` if its domain is not a plain host name.
    pub fn of(address: &str) -> Option<Self> {
        if !is_address(address) {
            return None;
        }
        let (local, domain) = address.rsplit_once('@')?;
        let domain = domain.to_ascii_lowercase();
        let hash = zbase32(&sha1(local.to_ascii_lowercase().as_bytes()));
        let file = format!("hu/{hash}?l={}", escaped(local));
        Some(Self {
            advanced: format!("/.well-known/openpgpkey/{domain}/{file}"),
            direct: format!("/.well-known/openpgpkey/{file}"),
            domain,
        })
    }
}

fn zbase32(bytes: &[u8; 20]) -> String {
    // 160 bits are exactly 32 letters.
    let mut letters = String::with_capacity(32);
    for five in bytes.chunks_exact(5) {
        let bits = five.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        for at in (0..8).rev() {
            let index = usize::try_from(bits >> (5 * at) & 31).unwrap_or(0);
            letters.push(char::from(LETTERS[index]));
        }
    }
    letters
}

/// Escapes a text for a query: everything but letters, digits and `-._~` becomes a percent code (RFC 3986, section
/// 2.3).
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_file_of_its_domain() {
        // The example of the specification.
        let found = KeyDirectory::of("Joe.Doe@Example.ORG").unwrap();
        let hash = "iy9q119eutrkn8s1mk4r39qejnbu3n5q";
        assert_eq!(found.domain, "example.org");
        assert_eq!(found.advanced, format!("/.well-known/openpgpkey/example.org/hu/{hash}?l=Joe.Doe"));
        assert_eq!(found.direct, format!("/.well-known/openpgpkey/hu/{hash}?l=Joe.Doe"));
        assert!(KeyDirectory::of("a+b&c@example.org").unwrap().direct.ends_with("?l=a%2Bb%26c"));
    }

    #[test]
    fn an_address_that_would_lead_elsewhere_is_none() {
        for odd in [
            "joe",
            "@example.org",
            "joe@",
            "joe@localhost",
            "joe@example.org:8080",
            "joe@example.org/x",
            "joe@u:p@example.org",
            "joe@exa mple.org",
            "joe@-example.org",
            "joe@example..org",
            "joe@[127.0.0.1]",
            "joe\n@example.org",
            "j\u{f6}e@example.org",
        ] {
            assert_eq!(KeyDirectory::of(odd), None, "{odd}");
        }
        assert_eq!(KeyDirectory::of(&format!("{}@example.org", "a".repeat(300))), None);
    }
}
