//! Whether a caller takes JSON (RFC 9110, section 12.5.1).

use axum::http::{HeaderMap, header};

use super::failure::Failure;

/// Passes when `Accept` is absent or lets `application/json` through. The most specific range
/// that covers it decides, so `*/*;q=0, application/json` passes.
pub(super) fn json(headers: &HeaderMap) -> Result<(), Failure> {
    let mut best: Option<(u8, bool)> = None;
    let mut asked = false;
    for value in headers.get_all(header::ACCEPT) {
        for range in value.to_str().unwrap_or("").split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or("");
            if name.is_empty() {
                continue;
            }
            asked = true;
            let precedence = match name.to_ascii_lowercase().as_str() {
                "application/json" => 2,
                "application/*" => 1,
                "*/*" => 0,
                _ => continue,
            };
            let wanted = !parts.any(is_zero_weight);
            if best.is_none_or(|(held, _)| precedence >= held) {
                best = Some((precedence, wanted));
            }
        }
    }
    if !asked || best.is_some_and(|(_, wanted)| wanted) {
        Ok(())
    } else {
        Err(Failure::not_acceptable())
    }
}

fn is_zero_weight(parameter: &str) -> bool {
    parameter.split_once('=').is_some_and(|(name, weight)| {
        name.trim().eq_ignore_ascii_case("q") && weight.trim().parse() == Ok(0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(accept: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, value.parse().unwrap());
        }
        json(&headers).is_ok()
    }

    #[test]
    fn json_is_taken_when_nothing_is_said_or_a_range_covers_it() {
        for accept in [
            &[][..],
            &["*/*"],
            &["text/html, application/*;q=0.5"],
            &["text/csv", "Application/JSON"],
        ] {
            assert!(takes(accept), "{accept:?}");
        }
    }

    #[test]
    fn json_is_not_taken_when_only_other_types_are_named() {
        assert!(!takes(&["text/csv, application/x-ndjson"]));
    }

    #[test]
    fn the_most_specific_range_decides() {
        assert!(!takes(&["application/json;q=0, */*"]));
        assert!(takes(&["*/*;q=0.0, application/json"]));
    }
}
