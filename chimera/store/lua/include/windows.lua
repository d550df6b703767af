-- Windows of money: the UTC calendar of an instant, the name of each window it is in, and when that starts anew.
local WINDOWS = { "minute", "hour", "day", "month", "year", "lifetime" }
-- The UTC calendar of an instant, from days since 1970 (the usual civil-from-days arithmetic).
local function calendar(us)
  local seconds = math.floor(us / 1000000)
  local days = math.floor(seconds / 86400)
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  local rest = seconds - days * 86400
  return { year = year, month = month, day = day, hour = math.floor(rest / 3600),
           minute = math.floor(rest % 3600 / 60), second = rest % 60 }
end
local function window_id(window, c)
  if window == "lifetime" then return "lifetime" end
  if window == "year" then return string.format("year:%04d", c.year) end
  if window == "month" then return string.format("month:%04d-%02d", c.year, c.month) end
  if window == "day" then return string.format("day:%04d-%02d-%02d", c.year, c.month, c.day) end
  if window == "hour" then return string.format("hour:%04d-%02d-%02dT%02d", c.year, c.month, c.day, c.hour) end
  return string.format("minute:%04d-%02d-%02dT%02d:%02d", c.year, c.month, c.day, c.hour, c.minute)
end
local MONTH_DAYS = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }
local function leap(y) return (y % 4 == 0 and y % 100 ~= 0) or y % 400 == 0 end
local function month_days(y, m) return m == 2 and leap(y) and 29 or MONTH_DAYS[m] end
-- Seconds until the window starts anew; 0 for lifetime.
local function resets_in(window, c)
  local of_day = c.hour * 3600 + c.minute * 60 + c.second
  if window == "minute" then return 60 - c.second end
  if window == "hour" then return 3600 - c.minute * 60 - c.second end
  if window == "day" then return 86400 - of_day end
  if window == "month" then return (month_days(c.year, c.month) - c.day + 1) * 86400 - of_day end
  if window == "year" then
    local days = month_days(c.year, c.month) - c.day + 1
    for m = c.month + 1, 12 do days = days + month_days(c.year, m) end
    return days * 86400 - of_day
  end
  return 0
end
-- Why an amount is refused by a limit that it does not fit: hopeless, until the window's reset, or until calls settle.
local function kind_of(amount, window, limit, settled)
  if amount > limit or (window == "lifetime" and settled + amount > limit) then return "exhausted" end
  return settled + amount > limit and "window" or "contended"
end
