/** Numbers, times and names of states in a readable form. A value that is not known is shown as an en dash. */

export const UNKNOWN = "–";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const oneDecimal = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
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

/** A mean of counts, with at most one decimal: 12, or 12.5. */
export function mean(value: Maybe): string {
  return value === null || value === undefined ? UNKNOWN : oneDecimal.format(value);
}

/** A number without decimals; from 10,000 on, in compact form: 12.3K. */
export function short(value: Maybe): string {
  if (value === null || value === undefined) return UNKNOWN;
  return Math.abs(value) < 10_000 ? whole.format(value) : compact.format(value);
}

/** A rate. Below 10 it has two digits, so that a slow rate is not shown as 0. */
export function rate(value: Maybe): string {
  if (value === null || value === undefined) return UNKNOWN;
  return value !== 0 && Math.abs(value) < 10 ? String(Number(value.toPrecision(2))) : short(value);
}

/** Labels of the ticks of an axis, with as many digits as make them differ. `distance`: between two ticks. */
export function ticks(values: readonly number[], distance: number): string[] {
  const digits = distance >= 1 || distance <= 0 ? 0 : Math.ceil(-Math.log10(distance) - 1e-9);
  const exact = new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const labels = values.map((value) => (Math.abs(value) < 10_000 ? exact.format(value) : short(value)));
  return new Set(labels).size === labels.length ? labels : values.map((value) => exact.format(value));
}

export function percent(value: Maybe, digits = 1): string {
  return value === null || value === undefined ? UNKNOWN : `${(value * 100).toFixed(digits)} %`;
}

/** An amount with two digits after the point, or two significant ones if it is small; as `cordctl cost` writes it. */
export function money(value: Maybe): string {
  if (value === null || value === undefined) return UNKNOWN;
  const digits = value <= 0 || value >= 0.1 ? 2 : Math.min(12, 1 - Math.floor(Math.log10(value)));
  return new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
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

const UNITS = [
  ["d", 86_400],
  ["h", 3600],
  ["min", 60],
] as const;

/** A number of seconds, in the largest unit in which it is a whole number. */
export function interval(seconds: number): string {
  const [unit, size] = UNITS.find(([, unitSeconds]) => seconds % unitSeconds === 0) ?? ["s", 1];
  return `${oneDecimal.format(seconds / size)} ${unit}`;
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

/** A name from the tables as words: `think_end` gives "think end". */
export function words(name: string): string {
  return name.replaceAll("_", " ");
}

/** What a value of `correct` means: 1 is right, 0 wrong; a value between them is the share of right samples. */
export function correctness(value: number | boolean | null): "right" | "wrong" | "undecided" | "partly" {
  if (value === null) return "undecided";
  if (value === true || value === 1) return "right";
  return value === false || value === 0 ? "wrong" : "partly";
}
