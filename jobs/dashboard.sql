-- The figures of the dashboard, a query for each of its tables. `requests` and `assessments` are the rows of all inference tables,
-- `costs` those of cost_hourly; :days is how far back they go.

-- name: hourly
WITH hourly_stats AS (
    SELECT
        date_trunc('hour', from_unixtime(timestamp_ms/1000)) as hour,
        count(*) as requests,
        sum(input_tokens) as input_tokens,
        sum(output_tokens) as output_tokens,
        avg(execution_time_ms) as avg_latency_ms,
        percentile(execution_time_ms, 0.95) as p95_latency_ms,
        sum(case when status_code >= 400 then 1 else 0 end) as errors,
        count_if(status_code = 429) as rate_limited,
        count_if(finish = 'blocked') as blocked,
        count_if(status_code < 400 and served_entity_name is not null) as served,
        count_if(status_code < 400 and served_entity_name is not null and size(attempts) > 1) as fallbacks
    FROM requests
    WHERE timestamp_ms > unix_timestamp(date_sub(current_date(), :days)) * 1000
    GROUP BY 1
)
SELECT
    hour,
    requests,
    input_tokens + output_tokens as total_tokens,
    round(avg_latency_ms, 0) as avg_latency_ms,
    round(p95_latency_ms, 0) as p95_latency_ms,
    round(100.0 * errors / requests, 2) as error_rate_pct,
    input_tokens, output_tokens, errors, rate_limited, blocked, served, fallbacks
FROM hourly_stats
ORDER BY hour DESC

-- name: endpoints
WITH endpoint_stats AS (
    SELECT
        endpoint_name,
        count(*) as requests,
        sum(input_tokens) as input_tokens,
        sum(output_tokens) as output_tokens,
        avg(execution_time_ms) as avg_latency_ms,
        percentile(execution_time_ms, 0.95) as p95_latency_ms,
        sum(case when status_code >= 400 then 1 else 0 end) as errors,
        count_if(status_code = 429) as rate_limited,
        count_if(finish = 'blocked') as blocked
    FROM requests
    WHERE timestamp_ms > unix_timestamp(date_sub(current_date(), :days)) * 1000
    GROUP BY 1
),
endpoint_costs AS (
    SELECT endpoint_name, sum(cost) as cost FROM costs WHERE hour >= date_sub(current_date(), :days) GROUP BY 1
)
SELECT endpoint_stats.*, cost FROM endpoint_stats LEFT JOIN endpoint_costs USING (endpoint_name) ORDER BY requests DESC

-- name: entities
SELECT endpoint_name, served_entity_name, served_model_name, count(*) as answers
FROM requests
WHERE timestamp_ms > unix_timestamp(date_sub(current_date(), :days)) * 1000 AND served_entity_name is not null AND status_code < 400
GROUP BY 1, 2, 3
ORDER BY answers DESC

-- name: users
SELECT requester, count(*) as requests, sum(input_tokens + output_tokens) as total_tokens, count_if(status_code = 429) as rate_limited
FROM requests
WHERE timestamp_ms > unix_timestamp(date_sub(current_date(), :days)) * 1000
GROUP BY 1
ORDER BY requests DESC, requester
LIMIT 10

-- name: tags
SELECT tag.key as tag, tag.value as value, sum(requests) as requests, sum(input_tokens + output_tokens) as total_tokens, sum(cost) as cost
FROM costs LATERAL VIEW explode(map_entries(tags)) entries as tag
WHERE hour >= date_sub(current_date(), :days)
GROUP BY 1, 2
ORDER BY tag, cost DESC NULLS LAST

-- name: findings
SELECT assessment_type, direction, assessment_result, count(*) as findings
FROM assessments
WHERE timestamp_ms > unix_timestamp(date_sub(current_date(), :days)) * 1000
GROUP BY 1, 2, 3
ORDER BY findings DESC

-- name: reviews
SELECT timestamp_millis(timestamp_ms) as time, endpoint_name, requester, assessment_type, direction, assessment_result, assessment_details,
       request_id
FROM assessments
WHERE timestamp_ms > unix_timestamp(date_sub(current_date(), :days)) * 1000
ORDER BY timestamp_ms DESC
LIMIT 50

-- name: unpriced
SELECT coalesce(sum(unpriced_requests), 0) as requests FROM costs WHERE hour >= date_sub(current_date(), :days)
