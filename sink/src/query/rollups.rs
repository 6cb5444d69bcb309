//! Rollups: what is defined, and the rows of one; and the types, which are a rollup too.

use schemas::Scalar;
use serde_json::{json, value::RawValue};

use super::{
    Answer, Page, Tenant,
    cursor::{Cursor, Fingerprint},
    events::push_next,
    failure::Failure,
    params::{Params, decode},
    scan::{Found, Scan, Total},
    serving,
    time::{Asked, Range, format},
    window,
};
use crate::{
    group::write_value,
    store::{Aggregate, Definition, RollupQuery, StoreError, VersionId},
};

/// The built-in rollup behind `/v1/types`: events by type, with the span of their times.
const TYPES: &str = "_types";
/// Rows of a page: they are small, so all that may be asked for is usual.
const MOST: usize = 1000;

/// `GET /v1/rollups`
pub(super) async fn definitions(query: &Tenant<'_>, params: Params) -> Result<Answer, Failure> {
    params.only(&[])?;
    let candidates = serving::candidates(query).await?;
    let listed: Vec<_> = candidates.iter().filter(|c| !serving::is_own(c)).map(describe).collect();
    let rows = listed.len();
    Ok(Answer { json: json!({ "rollups": listed }).to_string().into_bytes(), rows })
}

fn describe(candidate: &serving::Candidate) -> serde_json::Value {
    let Definition { name, kind, windows, group_by, measures } = &candidate.definition;
    let windows: Vec<String> = windows.iter().copied().map(window::name).collect();
    json!({
        "name": name,
        "type": kind,
        "windows": windows,
        "group_by": group_by,
        "measures": measures,
        "version": format!("{:016x}", candidate.version.0),
        "complete": candidate.complete,
    })
}

/// `GET /v1/types`
pub(super) async fn types(
    query: &Tenant<'_>,
    mut params: Params,
    page: Page,
) -> Result<Answer, Failure> {
    params.only(&["limit", "cursor"])?;
    let limit = params.take_limit(MOST, MOST)?;
    let fingerprint = Fingerprint::of("types", query.namespace).done();
    let cursor =
        params.take("cursor").map(|text| Cursor::decode(&text, fingerprint)).transpose()?;
    // Before a sink ever started there is no such definition, and nothing else either.
    let candidates = serving::candidates(query).await?;
    let found = if candidates.iter().any(|c| &*c.definition.name == TYPES) {
        let serving::Candidate { definition, version, .. } = serving::choose(candidates, TYPES)?;
        let scan = Scan {
            store: &*query.store,
            query: rollup_query(query, &definition, version, 0, Range::ALL),
            filter: &|_| true,
            after: cursor.map(|c| (c.at, c.first)),
            limit,
            closes: page.closes,
        };
        scan.by_window().await?
    } else {
        Found { totals: Vec::new(), next: None }
    };
    answer("types", &found, fingerprint, Range::ALL, write_type)
}

fn write_type(total: &Total, json: &mut Vec<u8>) -> Result<(), Failure> {
    let group = scalars(&total.group)?;
    json.extend_from_slice(br#"{"type":"#);
    json.extend_from_slice(group.first().map_or("null", |kind| kind.get()).as_bytes());
    json.extend_from_slice(format!(r#","count":{}"#, total.count).as_bytes());
    let times = total.measures.first().copied().unwrap_or_default();
    for (name, micros) in [("first", times.min), ("last", times.max)] {
        // Whole microseconds are exact in an f64 up to the year 2255.
        let text = micros.is_finite().then(|| format(micros as i64));
        json.extend_from_slice(format!(r#","{name}":"#).as_bytes());
        push_text(json, text.as_deref())?;
    }
    json.push(b'}');
    Ok(())
}

/// `GET /v1/rollups/{name}`
pub(super) async fn rows(
    query: &Tenant<'_>,
    path: &str,
    mut params: Params,
    page: Page,
) -> Result<Answer, Failure> {
    let name = path.rsplit('/').next().and_then(|name| decode(name, false)).unwrap_or_default();
    // Penstock's own are not there for callers, whether they exist or not.
    let name = if name.starts_with('_') { "" } else { &name };
    let candidates = serving::candidates(query).await?;
    let serving::Candidate { definition, version, .. } = serving::choose(candidates, name)?;

    let groups: Vec<String> = definition.group_by.keys().map(|a| format!("group.{a}")).collect();
    let mut known = vec!["window", "from", "to", "limit", "cursor"];
    known.extend(groups.iter().map(String::as_str));
    params.only(&known)?;
    let asked = Asked::take(&mut params)?;
    let wanted =
        params.take("window").map(|text| window::parse(&text, &definition.windows)).transpose()?;
    let limit = params.take_limit(MOST, MOST)?;
    let filters: Vec<Option<String>> =
        groups.iter().map(|name| params.take(name).map(kept)).collect();

    let fingerprint = filters
        .iter()
        .fold(Fingerprint::of("rollup", query.namespace), |so_far, filter| {
            so_far.optional(filter.as_deref())
        })
        .part(&*definition.name)
        .part(version.0.to_be_bytes())
        .part(wanted.unwrap_or(-1).to_be_bytes())
        .asked(&asked)
        .done();
    let cursor =
        params.take("cursor").map(|text| Cursor::decode(&text, fingerprint)).transpose()?;
    let range = match &cursor {
        Some(cursor) => cursor.range,
        None => asked.resolve((query.clock)())?,
    };
    let length = match wanted {
        Some(length) => window::check(range, asked.is_finer(), length).map(|()| length)?,
        None => window::widest(range, asked.is_finer(), &definition.windows)?,
    };

    let scan = Scan {
        store: &*query.store,
        query: rollup_query(query, &definition, version, length, range),
        filter: &|group| matches(group, &filters),
        after: cursor.map(|c| (c.at, c.first)),
        limit,
        closes: page.closes,
    };
    let found = match wanted {
        Some(_) => scan.by_window().await?,
        None => scan.whole_range().await?,
    };
    let columns = Columns::of(&definition, wanted.is_some())?;
    answer("rows", &found, fingerprint, range, |total, json| columns.write(total, json))
}

fn rollup_query(
    query: &Tenant<'_>,
    definition: &Definition,
    version: VersionId,
    window: i64,
    range: Range,
) -> RollupQuery {
    RollupQuery {
        namespace: query.namespace.clone(),
        rollup: definition.name.clone(),
        version,
        window,
        from: range.from,
        to: range.to,
    }
}

fn answer(
    list: &str,
    found: &Found,
    fingerprint: Fingerprint,
    range: Range,
    write: impl Fn(&Total, &mut Vec<u8>) -> Result<(), Failure>,
) -> Result<Answer, Failure> {
    let mut json = format!(r#"{{"{list}":["#).into_bytes();
    for (index, total) in found.totals.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        write(total, &mut json)?;
    }
    json.push(b']');
    if let Some((start, group)) = &found.next {
        let cursor = Cursor { range, at: *start, first: group.clone(), second: String::new() };
        push_next(&mut json, &cursor.encode(fingerprint));
    }
    json.push(b'}');
    Ok(Answer { json, rows: found.totals.len() })
}

/// The members of a row, with their names written once.
struct Columns {
    start: bool,
    aliases: Vec<Vec<u8>>,
    measures: Vec<Vec<(Vec<u8>, Statistic)>>,
}

/// What is shown of the numbers of a measure.
#[derive(Clone, Copy, Debug)]
enum Statistic {
    Sum,
    Min,
    Max,
    Avg,
}

impl Columns {
    fn of(definition: &Definition, start: bool) -> Result<Self, Failure> {
        let label = |name: &str| {
            let mut json = vec![b','];
            push_text(&mut json, Some(name))?;
            json.push(b':');
            Ok::<_, Failure>(json)
        };
        let aliases =
            definition.group_by.keys().map(|alias| label(alias)).collect::<Result<_, _>>()?;
        let mut measures = Vec::new();
        for (alias, measure) in &definition.measures {
            let mut shown = Vec::new();
            for name in &measure.of {
                if let Some(statistic) = Statistic::named(name) {
                    shown.push((label(&format!("{alias}_{name}"))?, statistic));
                }
            }
            measures.push(shown);
        }
        Ok(Self { start, aliases, measures })
    }

    fn write(&self, total: &Total, json: &mut Vec<u8>) -> Result<(), Failure> {
        json.push(b'{');
        let first = json.len();
        if self.start {
            json.extend_from_slice(br#","start":"#);
            push_text(json, Some(&format(total.start)))?;
        }
        let group = scalars(&total.group)?;
        for (alias, value) in self.aliases.iter().zip(&group) {
            json.extend_from_slice(alias);
            json.extend_from_slice(value.get().as_bytes());
        }
        json.extend_from_slice(format!(r#","count":{}"#, total.count).as_bytes());
        for (shown, numbers) in self.measures.iter().zip(&total.measures) {
            for (name, statistic) in shown {
                json.extend_from_slice(name);
                push_number(json, statistic.of(numbers));
            }
        }
        // Every member was written with a comma before it.
        json.remove(first);
        json.push(b'}');
        Ok(())
    }
}

impl Statistic {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "sum" => Self::Sum,
            "min" => Self::Min,
            "max" => Self::Max,
            "avg" => Self::Avg,
            _ => return None,
        })
    }

    /// The number, or none when there were none to compute it from.
    fn of(self, numbers: &Aggregate) -> Option<f64> {
        match self {
            Self::Sum => Some(numbers.sum),
            _ if numbers.count == 0 => None,
            Self::Min => Some(numbers.min),
            Self::Max => Some(numbers.max),
            Self::Avg => Some(numbers.sum / numbers.count as f64),
        }
    }
}

/// Writes a JSON number: whole ones without a fraction, what JSON cannot say as `null`.
fn push_number(json: &mut Vec<u8>, number: Option<f64>) {
    // Up to here every whole number is exact.
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    let text = match number.filter(|number| number.is_finite()) {
        Some(number) if number.fract() == 0.0 && number.abs() <= WHOLE => {
            (number as i64).to_string()
        }
        Some(number) => json!(number).to_string(),
        None => "null".to_owned(),
    };
    json.extend_from_slice(text.as_bytes());
}

fn push_text(json: &mut Vec<u8>, text: Option<&str>) -> Result<(), Failure> {
    serde_json::to_writer(json, &text).map_err(|e| Failure::internal(&e.to_string()))
}

/// The scalars of a group, as they are written.
fn scalars(group: &str) -> Result<Vec<&RawValue>, Failure> {
    serde_json::from_str(group).map_err(|_| {
        StoreError::Fatal("a rollup row has a group that is no JSON array".into()).into()
    })
}

/// A text as a group has it, where long ones are shortened.
fn kept(text: String) -> String {
    let mut json = Vec::new();
    write_value(Some(&Scalar::Text(text.as_str().into())), &mut json);
    serde_json::from_slice(&json).unwrap_or(text)
}

/// Whether a group has the texts asked for. The text of a string is the string, of any other
/// scalar what JSON writes: `3`, `true`, `null`.
fn matches(group: &str, filters: &[Option<String>]) -> bool {
    if filters.iter().all(Option::is_none) {
        return true;
    }
    let Ok(values) = scalars(group) else { return false };
    filters.iter().zip(values).all(|(filter, value)| {
        filter.as_deref().is_none_or(|wanted| match serde_json::from_str::<String>(value.get()) {
            Ok(text) => text == wanted,
            Err(_) => value.get() == wanted,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: Option<f64>) -> String {
        let mut json = Vec::new();
        push_number(&mut json, number);
        String::from_utf8(json).unwrap()
    }

    #[test]
    fn numbers_are_json_numbers_or_null() {
        assert_eq!(number(Some(265_801.0)), "265801");
        assert_eq!(number(Some(-0.5)), "-0.5");
        assert_eq!(number(Some(1e300)), "1e+300");
        for none in [None, Some(f64::NAN), Some(f64::INFINITY), Some(f64::NEG_INFINITY)] {
            assert_eq!(number(none), "null");
        }
    }

    #[test]
    fn a_filter_compares_the_text_of_any_scalar() {
        let group = r#"["U\"A",3,true,null,""]"#;
        let fits = |at: usize, text: &str| {
            let mut filters = vec![None; 5];
            filters[at] = Some(text.to_owned());
            matches(group, &filters)
        };
        assert!(
            fits(0, "U\"A") && fits(1, "3") && fits(2, "true") && fits(3, "null") && fits(4, "")
        );
        assert!(!fits(0, "UA") && !fits(1, "3.0") && !fits(3, ""));
    }

    #[test]
    fn a_long_text_is_found_by_itself_and_as_it_is_answered() {
        for long in ["z".repeat(3_000), "\u{1}é".repeat(500)] {
            let mut group = b"[".to_vec();
            write_value(Some(&Scalar::Text(long.as_str().into())), &mut group);
            group.push(b']');
            let group = String::from_utf8(group).unwrap();
            let answered: Vec<String> = serde_json::from_str(&group).unwrap();
            assert_ne!(answered[0], long);
            assert!(matches(&group, &[Some(kept(long.clone()))]));
            assert!(matches(&group, &[Some(kept(answered[0].clone()))]));
            assert!(!matches(&group, &[Some(kept(long + "z"))]));
        }
    }

    #[test]
    fn without_numbers_there_is_a_sum_but_no_average_or_extremes() {
        let none = Aggregate::default();
        assert_eq!(Statistic::Sum.of(&none), Some(0.0));
        for statistic in [Statistic::Avg, Statistic::Min, Statistic::Max] {
            assert_eq!(statistic.of(&none), None);
        }
    }
}
