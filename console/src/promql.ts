/** The same numbers for Prometheus. */

function text(value: string): string {
  return JSON.stringify(value);
}

function selector(model: string, version?: string | number): string {
  return version === undefined ? `{model=${text(model)}}` : `{model=${text(model)}, version=${text(String(version))}}`;
}

export function requestsOf(model: string): string {
  return `sum by (version) (rate(taxiway_inference_request_seconds_count${selector(model)}[1m]))`;
}

export function failuresOf(model: string): string {
  return `sum by (version, reason) (rate(taxiway_inference_failures_total${selector(model)}[1m]))`;
}

export function quantileOf(share: number, metric: string, model: string, version?: string | number): string {
  return `histogram_quantile(${share}, sum by (le, version) (rate(taxiway_inference_${metric}_seconds_bucket${selector(model, version)}[1m])))`;
}

export function batchOf(model: string): string {
  const of = selector(model);
  return `sum by (version) (rate(taxiway_inference_batch_rows_sum${of}[1m])) / sum by (version) (rate(taxiway_inference_batch_rows_count${of}[1m]))`;
}

export function pendingOf(model: string): string {
  return `sum by (version) (taxiway_queue_requests${selector(model)})`;
}

export function heatOf(model: string, version: string | number): string {
  return `sum by (le) (increase(taxiway_inference_request_seconds_bucket${selector(model, version)}[1m]))`;
}

export function driftOf(model: string, version: string | number): string {
  return `taxiway_drift_log10_evalue${selector(model, version)}`;
}
