//! Writes a date without asking a clock.

use crate::ImageError;

/// The last second that eleven octal digits of a tar header express: in the year 2242.
pub(crate) const LATEST: i64 = 0o777_7777_7777;

/// Seconds since 1970 as RFC 3339 in UTC, such as `2025-01-31T12:00:00Z`.
pub fn rfc3339(epoch: i64) -> Result<String, ImageError> {
    if !(0..=LATEST).contains(&epoch) {
        return Err(ImageError::Epoch(epoch));
    }
    let (days, second) = (epoch / 86_400, epoch % 86_400);
    // Count years from March, so that the leap day is the last of its year; 400 years have 146097 days.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    Ok(format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_date_1() {
        for (epoch, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_231_006_505, "2009-01-03T18:15:05Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (LATEST, "2242-03-16T12:56:31Z"),
        ] {
            assert_eq!(rfc3339(epoch).ok().as_deref(), Some(date));
        }
        assert!(rfc3339(-1).is_err() && rfc3339(LATEST + 1).is_err());
    }
}
