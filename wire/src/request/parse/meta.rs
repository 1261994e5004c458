//! Requests that are made of requests.

use super::super::source::Source;
use super::super::{ClientRequest, Condition, IfElse, RequestError};
use super::{Parsed, request, subrequest};

pub(super) fn batch(params: Source<'_>) -> Parsed<Vec<ClientRequest>> {
    params.subrequests(|method, params| {
        // The method is known: what is no subrequest is made of requests itself.
        subrequest(method, params).unwrap_or_else(|| {
            Err(RequestError::invalid(
                "Invalid batch subrequest: subrequests may not contain meta-requests",
            ))
        })
    })
}

/// How deep it nests is bounded by the depth of the document.
pub(super) fn ifelse(params: Source<'_>) -> Parsed<IfElse> {
    let read_branch = |name| {
        params
            .branch(name, |method, params| {
                // The method is known.
                request(method, params).unwrap_or_else(|| {
                    Err(RequestError::invalid("Invalid ifelse request: no method"))
                })
            })
            .map(|request| request.map(Box::new))
    };
    // bt is read from front to back: its keys are sorted.
    let early = if params.is_json() {
        None
    } else {
        read_branch("else")?
    };
    let condition = params
        .object("if")
        .ok_or_else(|| RequestError::invalid("Invalid ifelse request: no valid \"if\" field"))?;
    let condition = read_condition(condition)?;
    let then = read_branch("then")?;
    let otherwise = if params.is_json() {
        read_branch("else")?
    } else {
        early
    };
    if then.is_none() && otherwise.is_none() {
        return Err(RequestError::invalid(
            "Invalid ifelse request: at least one of \"then\"/\"else\" required",
        ));
    }
    Ok(IfElse {
        condition,
        then,
        otherwise,
    })
}

fn read_condition(params: Source<'_>) -> Parsed<Condition> {
    let condition = Condition {
        height_at_least: params.integer("height_at_least")?,
        height_before: params.integer("height_before")?,
        hf_at_least: params.integers("hf_at_least")?,
        hf_before: params.integers("hf_before")?,
        v_at_least: params.integers("v_at_least")?,
        v_before: params.integers("v_before")?,
    };
    if condition == Condition::default() {
        return Err(RequestError::invalid(
            "Invalid ifelse request: must specify at least one \"if\" condition",
        ));
    }
    Ok(condition)
}
