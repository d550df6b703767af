-- The next batch of a mission's tasks and actions, and with the last of them the mission's own keys, leave Redis. `from`
-- is how many have left, `drop_kept(id)` takes a task's kept replies. Returns how many are left. Needs keys and ids.
local function unlink_batch(k, mid, from, most, tasks, drop_kept)
  local actions, done = redis.call("LLEN", k.of_actions(mid)), 0
  for _, id in ipairs(tasks > from and ids_of(k, mid, from, most) or {}) do
    drop_kept(id)
    redis.call("UNLINK", k.of_spec(id), k.of_task(id), k.of_verdicts(id), k.of_commit(id))
    done = done + 1
  end
  if done < most then
    local first = from + done - tasks
    for _, id in ipairs(redis.call("LRANGE", k.of_actions(mid), first, first + most - done - 1)) do
      redis.call("UNLINK", k.of_action(id))
      done = done + 1
    end
  end
  local left = tasks + actions - from - done
  if left > 0 then
    redis.call("HSET", k.of_mission(mid), "pruned", from + done)
    return left
  end
  redis.call("UNLINK", k.of_mission(mid), k.of_ids(mid), k.of_counts(mid), k.of_ready(mid), k.of_parked(mid),
    k.of_actions(mid), k.of_outcomes(mid), k.of_spend(mid), k.of_shelf(mid))
  return 0
end
