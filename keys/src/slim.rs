//! Reduces a certificate to what its owner made. Anybody can add signatures, user ids and subkeys to somebody else's
//! certificate and give it to a key server. With these additions a certificate could grow until nobody can read it, and
//! sorting in thousands of strangers' signatures takes quadratic time.

use sequoia_openpgp::packet::Signature;
use sequoia_openpgp::parse::{PacketParser, PacketParserResult, Parse as _};
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::types::SignatureType;
use sequoia_openpgp::{Cert, Fingerprint, KeyHandle, Packet};

/// The most revocations by other keys that are kept; a certificate names its revokers, and they are few.
const REVOCATIONS: usize = 16;
/// The most user ids, and the most subkeys; people have ten.
const PARTS: usize = 100;
/// The most signatures that claim to be the owner's: ten years of extending all of the above.
const SIGNATURES: usize = 2000;

/// The wanted certificates in a stranger's answer, with parts that may be their owners' own; other parts are not even
/// examined.
pub(crate) fn sift(bytes: &[u8], wanted: &dyn Fn(&Fingerprint) -> bool) -> Vec<Cert> {
    let mut found = Vec::new();
    let mut sieve: Option<Sieve> = None;
    let Ok(mut next) = PacketParser::from_bytes(bytes) else { return found };
    while let PacketParserResult::Some(parser) = next {
        // Nothing after a malformed packet is read.
        let Ok((packet, rest)) = parser.next() else { break };
        next = rest;
        if matches!(packet, Packet::PublicKey(_) | Packet::SecretKey(_)) {
            found.extend(sieve.take().and_then(Sieve::cert));
            sieve = Sieve::of(packet).filter(|sieve| wanted(&sieve.fingerprint));
        } else if let Some(sieve) = &mut sieve {
            sieve.take(packet);
        }
    }
    found.extend(sieve.and_then(Sieve::cert));
    found
}

/// The packets of one certificate that are kept so far.
struct Sieve {
    fingerprint: Fingerprint,
    packets: Vec<Packet>,
    ids: usize,
    subkeys: usize,
    own: usize,
    revocations: usize,
    /// Whether the last part is kept; signatures over a part are kept only with it.
    keeps: bool,
}

impl Sieve {
    fn of(primary: Packet) -> Option<Self> {
        let fingerprint = match &primary {
            Packet::PublicKey(key) => key.fingerprint(),
            Packet::SecretKey(key) => key.fingerprint(),
            _ => return None,
        };
        let packets = vec![primary];
        Some(Self { fingerprint, packets, ids: 0, subkeys: 0, own: 0, revocations: 0, keeps: true })
    }

    fn take(&mut self, packet: Packet) {
        let counted = |count: &mut usize, most: usize| {
            *count += 1;
            *count <= most
        };
        let keep = match &packet {
            Packet::UserID(_) => {
                self.keeps = counted(&mut self.ids, PARTS);
                self.keeps
            }
            Packet::PublicSubkey(_) | Packet::SecretSubkey(_) => {
                self.keeps = counted(&mut self.subkeys, PARTS);
                self.keeps
            }
            Packet::Signature(signature) if self.keeps => {
                if by(signature, &self.fingerprint) {
                    counted(&mut self.own, SIGNATURES)
                } else {
                    signature.typ() == SignatureType::KeyRevocation
                        && counted(&mut self.revocations, REVOCATIONS)
                }
            }
            Packet::Signature(_) => false,
            // Pictures, and unknown packets: signatures over them are dropped with them.
            _ => {
                self.keeps = false;
                false
            }
        };
        if keep {
            self.packets.push(packet);
        }
    }

    fn cert(self) -> Option<Cert> {
        let cert = Cert::from_packets(self.packets.into_iter()).ok()?;
        slim(&cert.strip_secret_key_material())
    }
}

fn by(signature: &Signature, signer: &Fingerprint) -> bool {
    let signer = KeyHandle::from(signer.clone());
    signature.get_issuers().iter().any(|issuer| issuer.aliases(&signer))
}

/// The parts of a certificate that its own primary key signed, with every revocation by it. `None` if no valid
/// certificate remains.
pub(crate) fn slim(cert: &Cert) -> Option<Cert> {
    let primary = cert.primary_key();
    let mut packets: Vec<Packet> = vec![primary.key().clone().into()];
    // The library verifies these signatures when it returns them.
    packets.extend(primary.self_revocations().chain(primary.self_signatures()).cloned().map(Packet::from));
    packets.extend(by_revokers(cert));
    for id in cert.userids() {
        let own: Vec<Packet> =
            id.self_revocations().chain(id.self_signatures()).cloned().map(Packet::from).collect();
        if !own.is_empty() {
            packets.push(id.userid().clone().into());
            packets.extend(own);
        }
    }
    for subkey in cert.keys().subkeys() {
        let own: Vec<Packet> =
            subkey.self_revocations().chain(subkey.self_signatures()).cloned().map(Packet::from).collect();
        if !own.is_empty() {
            packets.push(subkey.key().clone().into());
            packets.extend(own);
        }
    }
    Cert::from_packets(packets.into_iter()).ok()
}

/// Revocations by keys that the certificate itself names as its revokers.
fn by_revokers(cert: &Cert) -> Vec<Packet> {
    let policy = StandardPolicy::new();
    let revokers: Vec<_> = cert.revocation_keys(&policy).map(|key| key.revoker().1.clone()).collect();
    let named = |sig: &&Signature| revokers.iter().any(|revoker| by(sig, revoker));
    let found = cert.primary_key().other_revocations().filter(named);
    found.take(REVOCATIONS).cloned().map(Packet::from).collect()
}
