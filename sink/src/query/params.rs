//! The query string: decoded once, strictly. What is not known, comes twice or is not UTF-8 is
//! refused, because a filter that is silently ignored answers another question.

use super::failure::Failure;

/// Longest part of a caller's own text that an error repeats.
const ECHO: usize = 40;

/// The parameters of a request, each at most once.
#[derive(Debug, PartialEq)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Splits and decodes a query string, as forms encode it: `+` and `%20` are spaces.
    pub(super) fn parse(raw: Option<&str>) -> Result<Self, Failure> {
        let mut found: Vec<(String, String)> = Vec::new();
        for pair in raw.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name, true).ok_or_else(|| undecodable(None))?;
            let value = decode(value, true).ok_or_else(|| undecodable(Some(&name)))?;
            if found.iter().any(|(known, _)| *known == name) {
                return Err(Failure::bad(
                    "duplicate_parameter",
                    "A parameter came twice",
                    format!("Parameter {} may come only once.", echo(&name)),
                ));
            }
            found.push((name, value));
        }
        Ok(Self(found))
    }

    /// Refuses every name but the known ones.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Failure> {
        let Some((name, _)) = self.0.iter().find(|(name, _)| !known.contains(&name.as_str()))
        else {
            return Ok(());
        };
        let listed = match known {
            [] => "It takes none.".to_owned(),
            known => format!("Known here: {}.", known.join(", ")),
        };
        let guess = suggestion(name, known)
            .map(|guess| format!(" Did you mean `{guess}`?"))
            .unwrap_or_default();
        Err(Failure::bad(
            "unknown_parameter",
            "A parameter is not known",
            format!("Parameter {} is not known.{guess} {listed}", echo(name)),
        )
        .with("known", known))
    }

    /// Takes a parameter's value out.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// As [`Params::take`], refusing an empty value.
    pub(super) fn take_filled(&mut self, name: &str) -> Result<Option<String>, Failure> {
        match self.take(name) {
            Some(value) if value.is_empty() => Err(Failure::parameter(name, "must not be empty.")),
            value => Ok(value),
        }
    }

    /// As [`Params::take_filled`], for one that must be there.
    pub(super) fn require(&mut self, name: &str) -> Result<String, Failure> {
        self.take_filled(name)?.ok_or_else(|| {
            Failure::bad(
                "missing_parameter",
                "A parameter is missing",
                format!("Parameter `{name}` is needed."),
            )
            .with("parameter", name)
        })
    }

    /// Takes `limit`: a whole number from 1 to `most`.
    pub(super) fn take_limit(&mut self, usual: usize, most: usize) -> Result<usize, Failure> {
        let Some(text) = self.take("limit") else { return Ok(usual) };
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(limit) if digits && (1..=most).contains(&limit) => Ok(limit),
            _ => Err(Failure::parameter(
                "limit",
                format!("must be a whole number from 1 to {most}."),
            )),
        }
    }
}

/// Decodes percent escapes; `None` when one is broken or the bytes are not UTF-8.
pub(super) fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        bytes.push(match first {
            b'%' => {
                let [high, low, after @ ..] = rest else { return None };
                rest = after;
                let digit = |hex: &u8| char::from(*hex).to_digit(16);
                u8::try_from(digit(high)? * 16 + digit(low)?).ok()?
            }
            b'+' if plus_is_space => b' ',
            other => *other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A caller's own text, short enough to repeat.
pub(super) fn echo(text: &str) -> String {
    match text.char_indices().nth(ECHO) {
        Some((cut, _)) => format!("`{}...`", &text[..cut]),
        None => format!("`{text}`"),
    }
}

/// The known name that somebody most likely meant.
pub(super) fn suggestion<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    if name.len() > ECHO {
        return None;
    }
    known
        .iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), *known))
        .filter(|(likeness, _)| *likeness >= 0.5)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

fn undecodable(name: Option<&str>) -> Failure {
    let what = name.map_or("A parameter's name".to_owned(), |name| {
        format!("The value of parameter {}", echo(name))
    });
    Failure::bad(
        "invalid_encoding",
        "The query string cannot be decoded",
        format!("{what} is not percent-encoded UTF-8."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(result: Result<impl std::fmt::Debug, Failure>) -> (String, String) {
        let failure = result.unwrap_err();
        (failure.problem().code.clone(), failure.problem().detail.clone())
    }

    #[test]
    fn escapes_plus_signs_and_unicode_are_decoded() {
        let mut params = Params::parse(Some("id=a%2Fb+c%20%C3%A9&&source=%2B&flag")).unwrap();
        assert_eq!(params.take("id").as_deref(), Some("a/b c é"));
        assert_eq!(params.take("source").as_deref(), Some("+"));
        assert_eq!(params.take("flag").as_deref(), Some(""));
    }

    #[test]
    fn a_plus_sign_in_a_path_stays_one() {
        assert_eq!(decode("a+b%2b", false).as_deref(), Some("a+b+"));
    }

    #[test]
    fn broken_escapes_and_other_encodings_are_refused() {
        for raw in ["id=%", "id=%4", "id=%zz", "id=%FF", "%C3=1"] {
            assert_eq!(code(Params::parse(Some(raw))).0, "invalid_encoding", "{raw}");
        }
    }

    #[test]
    fn a_parameter_that_comes_twice_is_refused_even_when_encoded_differently() {
        assert_eq!(code(Params::parse(Some("type=a&t%79pe=a"))).0, "duplicate_parameter");
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones_and_the_likeliest() {
        let params = Params::parse(Some("type=a&form=now")).unwrap();
        let (code, detail) = code(params.only(&["type", "from", "to"]));
        assert_eq!(code, "unknown_parameter");
        assert_eq!(
            detail,
            "Parameter `form` is not known. Did you mean `from`? Known here: type, from, to."
        );
    }

    #[test]
    fn a_long_unknown_name_is_not_repeated_whole() {
        let params = Params::parse(Some(&"x".repeat(5000))).unwrap();
        assert!(code(params.only(&["type"])).1.len() < 200);
    }

    #[test]
    fn limits_are_whole_numbers_in_bounds() {
        let limit = |text: &str| {
            Params::parse(Some(&format!("limit={text}"))).unwrap().take_limit(100, 1000)
        };
        assert_eq!(limit("1").unwrap(), 1);
        assert_eq!(limit("1000").unwrap(), 1000);
        for bad in ["", "0", "1001", "-1", "%2B5", "1e2", "99999999999999999999999"] {
            assert_eq!(code(limit(bad)).0, "invalid_parameter", "{bad}");
        }
        assert_eq!(Params::parse(None).unwrap().take_limit(100, 1000).unwrap(), 100);
    }
}
