//! Pauses in which an upstream is not asked.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hab_outbound::header::{HeaderMap, RETRY_AFTER};

use crate::failure::Failure;

/// The longest pause that an upstream may ask for.
const LONGEST: Duration = Duration::from_secs(3600);

/// The pause of one upstream.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    /// When the pause ends, whether the upstream asked for it, and why. Held for a copy only.
    until: Mutex<Option<(Instant, bool, Failure)>>,
}

impl Pause {
    /// How much of the pause is left, and whether the upstream asked for it.
    pub(crate) fn left(&self) -> Option<(Duration, bool)> {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, asked, _) = until.as_ref()?;
        let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        left.map(|left| (left, *asked))
    }

    /// The reason for the pause, while it lasts.
    pub(crate) fn reason(&self) -> Option<Failure> {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.as_ref().filter(|(until, ..)| *until > Instant::now()).map(|(_, _, why)| why.clone())
    }

    /// Begins a pause, because the upstream cannot be reached.
    pub(crate) fn begin(&self, time: Duration, why: &Failure) {
        self.set(time, false, why);
    }

    /// Begins a pause as long as an answer asks for, between `least` and an hour; `least` if it asks for none.
    pub(crate) fn begin_as_asked(&self, headers: &HeaderMap, least: Duration, why: &Failure) {
        let text = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let asked = text.and_then(|text| after(text, SystemTime::now()));
        self.set(asked.unwrap_or(least).clamp(least.min(LONGEST), LONGEST), true, why);
    }

    fn set(&self, time: Duration, asked: bool, why: &Failure) {
        let until = (Instant::now() + time, asked, why.clone());
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.
fn after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    // A date in the past asks for no pause.
    Some(SystemTime::from(date).duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_retry_after_are_read() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let cases = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:51:37 GMT", Some(120)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("99999999999999999999999", None),
            ("", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(after(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn nobody_asks_for_more_than_an_hour_or_less_than_the_least() {
        let rest = Pause::default();
        assert_eq!(rest.left(), None);
        for (text, least, most) in [("99999", 3590, 3600), ("1", 5, 10), ("nonsense", 5, 10)] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            rest.begin_as_asked(&headers, Duration::from_secs(10), &Failure::away("it limits"));
            let left = rest.left().unwrap().0.as_secs();
            assert!((least..=most).contains(&left), "{text}: {left}");
        }
    }
}
