//! Streams that come before others: while producers move to new streams, these are read only once the old ones are at their
//! end, so that no event overtakes one that was sent before it.

use std::time::{Duration, Instant};

use crate::stores::{Redis, StoreError, script};

use super::GROUP;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// Whether a group has read and acknowledged all of a stream. A stream that is not there is at its end.
const IS_AT_ITS_END: &str = r"
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups.err then return 1 end
local last = '0-0'
for _, fields in ipairs(groups) do
  local g = {}
  for i = 1, #fields, 2 do g[fields[i]] = fields[i + 1] end
  if g['name'] == ARGV[1] then
    if g['pending'] > 0 then return 0 end
    last = g['last-delivered-id']
  end
end
if #redis.call('XRANGE', KEYS[1], '(' .. last, '+', 'COUNT', 1) > 0 then return 0 end
return 1";

/// What has to be at its end before a stream is read.
pub(crate) struct Before {
    streams: Vec<String>,
    looked: Option<(Instant, bool)>,
    waits: bool,
}

impl Before {
    /// These streams come first; none of them waits for the others.
    pub(crate) fn new(first: &[String], stream: &str) -> Self {
        let is_first = first.iter().any(|first| first == stream);
        Self {
            streams: if is_first { Vec::new() } else { first.to_vec() },
            looked: None,
            waits: false,
        }
    }

    /// Whether there is nothing to wait for, ever.
    pub(super) fn is_nothing(&self) -> bool {
        self.streams.is_empty()
    }

    /// Whether all of them are. Asked at most twice a second.
    pub(super) async fn are_at_their_end(&mut self, redis: &Redis, stream: &str) -> Result<bool, StoreError> {
        if self.streams.is_empty() {
            return Ok(true);
        }
        if let Some((at, answer)) = self.looked
            && at.elapsed() < INTERVAL
        {
            return Ok(answer);
        }
        let mut all = true;
        for first in &self.streams {
            let mut look = script(IS_AT_ITS_END, &[first]);
            let is_at_its_end: bool = redis
                .ask("looking for the end of a stream", look.arg(GROUP))
                .await?;
            all &= is_at_its_end;
        }
        self.looked = Some((Instant::now(), all));
        if std::mem::replace(&mut self.waits, !all) == all {
            let first = self.streams.join(",");
            if all {
                tracing::info!(
                    stream,
                    first,
                    "the streams before this one are at their end: reading it"
                );
            } else {
                tracing::info!(
                    stream,
                    first,
                    "not reading the stream yet: those before it are not at their end"
                );
            }
        }
        Ok(all)
    }
}
