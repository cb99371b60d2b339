//! When a host renders: the hours of a week, as people write them.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY_MIN: u16 = 24 * 60;
/// Nobody writes more by hand.
const WINDOWS_MAX: usize = 32;

/// Windows of a week, in the coordinator's local time: `mon-fri 19:00-07:00, sat-sun`.
///
/// A window that ends at or before its begin goes on into the next day; one without times is the
/// whole day.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Schedule(Vec<Window>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Window {
    first_day: u8,
    last_day: u8,
    /// Minutes of the day; `None`: all of it.
    times: Option<(u16, u16)>,
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no schedule: write hours as `mon-fri 19:00-07:00, sat-sun`")]
pub struct BadSchedule(String);

impl Schedule {
    /// Whether a minute of a day of the week (0 is Monday) is in one of the windows.
    pub fn contains(&self, day: u8, minute: u16) -> bool {
        self.0.iter().any(|window| window.contains(day % 7, minute))
    }
}

impl Window {
    fn contains(self, day: u8, minute: u16) -> bool {
        let Some((from, to)) = self.times else { return self.has_day(day) };
        if from < to {
            return self.has_day(day) && (from..to).contains(&minute);
        }
        let yesterday = (day + 6) % 7;
        (self.has_day(day) && minute >= from) || (self.has_day(yesterday) && minute < to)
    }

    /// `fri-mon` goes over the weekend.
    fn has_day(self, day: u8) -> bool {
        let from_first = |day: u8| (day + 7 - self.first_day) % 7;
        from_first(day) <= from_first(self.last_day)
    }
}

impl FromStr for Schedule {
    type Err = BadSchedule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadSchedule(text.chars().take(80).collect());
        let windows: Option<Vec<Window>> = text.split(',').map(window).collect();
        match windows {
            Some(windows) if windows.len() <= WINDOWS_MAX => Ok(Self(windows)),
            _ => Err(bad()),
        }
    }
}

fn window(text: &str) -> Option<Window> {
    let mut words = text.split_whitespace();
    let days = words.next()?.to_ascii_lowercase();
    let times = words.next();
    if words.next().is_some() {
        return None;
    }
    let (first, last) = days.split_once('-').unwrap_or((&days, &days));
    let day = |name: &str| DAYS.iter().position(|day| *day == name).map(|at| at as u8);
    let times = match times {
        Some(times) => {
            let (from, to) = times.split_once('-')?;
            Some((minute(from)?, minute(to)?))
        }
        None => None,
    };
    Some(Window { first_day: day(first)?, last_day: day(last)?, times })
}

/// `24:00` is the end of a day.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    if hours.len() > 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= DAY_MIN).then_some(minute)
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, window) in self.0.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{}", DAYS[usize::from(window.first_day)])?;
            if window.last_day != window.first_day {
                write!(f, "-{}", DAYS[usize::from(window.last_day)])?;
            }
            if let Some((from, to)) = window.times {
                let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
                write!(f, " {}-{}", clock(from), clock(to))?;
            }
        }
        Ok(())
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl utoipa::PartialSchema for Schedule {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("Hours of a week, in the coordinator's local time"))
            .examples(["mon-fri 19:00-07:00, sat-sun"])
            .into()
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for Schedule {}

#[cfg(test)]
mod tests {
    use super::*;

    const MONDAY: u8 = 0;
    const FRIDAY: u8 = 4;
    const SATURDAY: u8 = 5;
    const SUNDAY: u8 = 6;

    fn schedule(text: &str) -> Schedule {
        text.parse().unwrap()
    }

    #[test]
    fn nights_go_on_into_the_next_day_and_weekends_are_whole() {
        let schedule = schedule("mon-fri 19:00-07:00, sat-sun");
        assert!(!schedule.contains(MONDAY, 6 * 60), "Sunday's night is none of these");
        assert!(!schedule.contains(MONDAY, 12 * 60));
        assert!(schedule.contains(MONDAY, 19 * 60));
        assert!(schedule.contains(FRIDAY, 6 * 60 + 59));
        assert!(!schedule.contains(FRIDAY, 7 * 60));
        assert!(schedule.contains(SATURDAY, 6 * 60));
        assert!(schedule.contains(SUNDAY, 23 * 60 + 59));
    }

    #[test]
    fn days_may_go_over_the_weekend() {
        let schedule = schedule("fri-mon 20:00-24:00");
        for day in [FRIDAY, SATURDAY, SUNDAY, MONDAY] {
            assert!(schedule.contains(day, 23 * 60));
            assert!(!schedule.contains(day, 0));
        }
        assert!(!schedule.contains(2, 23 * 60));
    }

    #[test]
    fn it_is_written_as_it_is_read() {
        for text in ["mon", "sat-sun", "mon-fri 19:00-07:00, sat-sun", "tue 00:00-24:00"] {
            assert_eq!(schedule(text).to_string(), text);
        }
        assert_eq!(schedule(" Mon-Fri  9:30-18:00 ").to_string(), "mon-fri 09:30-18:00");
    }

    #[test]
    fn what_is_no_schedule_is_said() {
        for text in
            ["", "never", "mon 7-9", "mon 25:00-26:00", "mon 07:60-08:00", "mon,", "mon a b"]
        {
            let error = text.parse::<Schedule>().unwrap_err().to_string();
            assert!(error.contains("write hours as `mon-fri 19:00-07:00, sat-sun`"), "{error}");
        }
    }
}
