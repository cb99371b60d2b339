//! Long lists in pages, each of which says where the next one begins.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Problem;

pub(super) const LIMIT_MAX: usize = 1_000;
const LIMIT: usize = 100;

/// Which part of a long list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Part {
    /// Rows at most; 100 unless told.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// What the page before gave as `next`.
    cursor: Option<String>,
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// The cursor of the next page; `null` if this is the last one for now.
    pub(super) next: Option<String>,
}

impl Part {
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        limit(self.limit)
    }

    /// What the cursor says; `None` on the first page.
    pub(super) fn cursor<T: FromStr>(&self) -> Result<Option<T>, Problem> {
        self.cursor.as_deref().map(parse).transpose()
    }
}

/// How many rows that is.
pub(super) fn limit(told: Option<u32>) -> Result<usize, Problem> {
    match told {
        None => Ok(LIMIT),
        Some(limit) => {
            usize::try_from(limit).ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or_else(
                || Problem::bad_request(format!("`limit` is {limit}: give 1 to {LIMIT_MAX}")),
            )
        }
    }
}

pub(super) fn parse<T: FromStr>(cursor: &str) -> Result<T, Problem> {
    cursor.parse().map_err(|_| {
        Problem::bad_request("the cursor is none: give what an earlier answer had as `next`")
    })
}
