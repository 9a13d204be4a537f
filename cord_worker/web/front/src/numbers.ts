/** Numbers, times and names of states in a readable form. Unknown ones are an en dash. */

export const UNKNOWN = "–";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

type Maybe = number | null | undefined;

export function score(value: Maybe): string {
  if (value === null || value === undefined) return UNKNOWN;
  if (value > 0 && value < 0.0005) return "<.001";
  return value.toFixed(3);
}

export function gain(value: Maybe): string {
  if (value === null || value === undefined) return UNKNOWN;
  const text = Math.abs(value).toFixed(3);
  if (text === "0.000") return "±0.000";
  return (value < 0 ? "−" : "+") + text;
}

export function count(value: Maybe): string {
  return value === null || value === undefined ? UNKNOWN : whole.format(value);
}

/** Means of counts: 12, or 12.5. */
export function mean(value: Maybe): string {
  return value === null || value === undefined ? UNKNOWN : one.format(value);
}

export function short(value: Maybe): string {
  if (value === null || value === undefined) return UNKNOWN;
  return Math.abs(value) < 10_000 ? whole.format(value) : compact.format(value);
}

/** A rate: two digits if it is below 10, so that a slow one is not 0. */
export function rate(value: Maybe): string {
  if (value === null || value === undefined) return UNKNOWN;
  return value !== 0 && Math.abs(value) < 10 ? String(Number(value.toPrecision(2))) : short(value);
}

/** Labels of an axis whose ticks are `apart`: with the digits that make them differ. */
export function ticks(values: readonly number[], apart: number): string[] {
  const digits = apart >= 1 || apart <= 0 ? 0 : Math.ceil(-Math.log10(apart) - 1e-9);
  const exact = new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const labels = values.map((value) => (Math.abs(value) < 10_000 ? exact.format(value) : short(value)));
  return new Set(labels).size === labels.length ? labels : values.map((value) => exact.format(value));
}

export function percent(value: Maybe, digits = 1): string {
  return value === null || value === undefined ? UNKNOWN : `${(value * 100).toFixed(digits)} %`;
}

export function seconds(value: Maybe): string {
  if (value === null || value === undefined) return UNKNOWN;
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  const minutes = Math.round(value / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** The length of an interval of time, exactly. */
export function interval(value: number): string {
  const [number, unit] =
    value % 86_400 === 0 ? [value / 86_400, "d"] : value % 3600 === 0 ? [value / 3600, "h"] : value % 60 === 0 ? [value / 60, "min"] : [value, "s"];
  return `${one.format(number)} ${unit}`;
}

const dateTime = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

export function moment(iso: string | null): string {
  return iso === null ? UNKNOWN : dateTime.format(new Date(iso));
}

const exactTime = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/** A moment to the second. */
export function exactMoment(iso: string): string {
  return exactTime.format(new Date(iso));
}

const date = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium" });
const hourAndMinute = new Intl.DateTimeFormat("en-GB", { timeStyle: "short" });

export function day(iso: string): string {
  return date.format(new Date(iso));
}

export function timeOfDay(iso: string): string {
  return hourAndMinute.format(new Date(iso));
}

export function time(at: Date): string {
  return clock.format(at);
}

export function counted(number: number, noun: string, plural = `${noun}s`): string {
  return `${whole.format(number)} ${number === 1 ? noun : plural}`;
}

/** Words of the tables for readers: `think_end` as "think end". */
export function words(name: string): string {
  return name.replaceAll("_", " ");
}

/** 1 right, 0 wrong; between them the share of right samples. */
export function correctness(value: number | boolean | null): "right" | "wrong" | "undecided" | "partly" {
  if (value === null) return "undecided";
  if (value === true || value === 1) return "right";
  return value === false || value === 0 ? "wrong" : "partly";
}
