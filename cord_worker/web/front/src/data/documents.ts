/** The JSON documents, from documents.py, which says what they mean; a test compares the two. */

export interface Site {
  readonly size: string;
  readonly version: string;
  readonly run: string | null;
  readonly is_live: boolean;
  readonly poll_seconds: number;
  readonly has_prompts: boolean;
  readonly has_comparisons: boolean;
  readonly made_at: string | null;
  readonly left_out: readonly string[];
  readonly whole_problems: readonly number[] | null;
}

export interface RunSummary {
  readonly name: string;
  readonly path: string;
  readonly state: string;
  readonly pipeline: string;
  readonly created_at: string;
  readonly problems: Readonly<Record<string, number>>;
  readonly total: number;
  readonly correct: number;
  readonly checked: number;
  readonly undecided: number;
  readonly accuracy: number | null;
  readonly accuracy_low: number | null;
  readonly accuracy_high: number | null;
  readonly pause_reason: string | null;
  readonly mean_score: number | null;
  readonly tokens: number | null;
  readonly trimmed_from: string | null;
}

export interface RunList {
  readonly runs: readonly RunSummary[];
}

export interface Fact {
  readonly label: string;
  readonly value: string;
}

export interface Spread {
  readonly count: number;
  readonly mean: number | null;
  readonly low: number | null;
  readonly median: number | null;
  readonly high: number | null;
}

export interface TeacherFigures {
  readonly name: string;
  readonly model: string;
  readonly proposed: number;
  readonly invalid: number;
  readonly shared: number;
  readonly kept: number;
  readonly winning: number;
  readonly share: number | null;
  readonly mean_score: number | null;
  readonly gain: Spread;
  readonly tokens: number;
  readonly seconds: number;
}

export interface SelectionCell {
  readonly teacher: string;
  readonly tenth: number;
  readonly proposed: number;
  readonly kept: number;
  readonly winning: number;
  readonly share: number | null;
  readonly credit: number;
  readonly mean_score: number | null;
}

export interface StepScores {
  readonly step: number;
  readonly winners: Spread;
  readonly kept: Spread;
}

export interface Histogram {
  readonly edges: readonly number[];
  readonly counts: readonly number[];
  readonly mean: number | null;
  readonly low: number | null;
  readonly high: number | null;
}

export interface CostLine {
  readonly model: string;
  readonly kind: string;
  readonly requests: number;
  readonly prompt_tokens: number;
  readonly cached_tokens: number;
  readonly completion_tokens: number;
  readonly request_seconds: number;
  readonly engine_seconds: number;
}

export interface ModelCost {
  readonly model: string;
  readonly requests: number;
  readonly prompt_tokens: number;
  readonly cached_tokens: number;
  readonly completion_tokens: number;
  readonly worker_seconds: number;
  readonly gpu_hours: number | null;
  readonly money: number | null;
}

export interface Cost {
  readonly lines: readonly CostLine[];
  readonly models: readonly ModelCost[];
  readonly currency: string | null;
  readonly run_seconds: number | null;
  readonly problem_seconds: number | null;
}

export interface Failures {
  readonly count: number;
  readonly reason: string;
  readonly position: number;
  readonly id: string;
  readonly is_technical: boolean;
}

export interface InvalidCandidates {
  readonly teacher: string;
  readonly reason: string;
  readonly count: number;
}

export interface Timeline {
  readonly start: string | null;
  readonly bucket_seconds: number;
  readonly finished: readonly number[];
  readonly failed: readonly number[];
  readonly steps: readonly number[];
  readonly scores: readonly number[];
  readonly tokens: readonly number[];
  readonly queued: readonly number[];
  readonly active: readonly number[];
}

export interface RunDocument {
  readonly run: RunSummary;
  readonly facts: readonly Fact[];
  readonly config: Readonly<Record<string, unknown>>;
  readonly teachers: readonly TeacherFigures[];
  readonly selection: readonly SelectionCell[];
  readonly scores: readonly StepScores[];
  readonly steps: Histogram;
  readonly tokens: Histogram;
  readonly cost: Cost;
  readonly failures: readonly Failures[];
  readonly invalid: readonly InvalidCandidates[];
  readonly timeline: Timeline;
  readonly missing: readonly string[];
}

export interface ProblemTable {
  readonly position: readonly number[];
  readonly id: readonly string[];
  readonly state: readonly string[];
  readonly score: readonly (number | null)[];
  readonly gain: readonly (number | null)[];
  readonly correct: readonly (number | null)[];
  readonly steps: readonly (number | null)[];
  readonly tokens: readonly (number | null)[];
  readonly result_tokens: readonly (number | null)[];
  readonly lead: readonly (number | null)[];
  readonly loser_step: readonly (number | null)[];
  readonly loser_teacher: readonly (string | null)[];
  readonly loser_text: readonly (string | null)[];
  readonly loser_repeats: readonly (boolean | null)[];
  readonly seconds: readonly (number | null)[];
  readonly answer: readonly string[];
  readonly question: readonly string[];
}

export interface ProblemList {
  readonly run: string;
  readonly total: number;
  readonly matching: number;
  readonly offset: number;
  readonly rows: ProblemTable;
}

export interface CandidateTable {
  readonly step: readonly number[];
  readonly depth: readonly number[];
  readonly round: readonly number[];
  readonly slot: readonly number[];
  readonly parent: readonly (number | null)[];
  readonly teacher: readonly number[];
  readonly sample: readonly number[];
  readonly state: readonly string[];
  readonly score: readonly (number | null)[];
  readonly gain: readonly (number | null)[];
  readonly judgment: readonly (number | null)[];
  readonly rank: readonly (number | null)[];
  readonly kept: readonly (boolean | null)[];
  readonly reason: readonly string[];
  readonly behind: readonly (number | null)[];
  readonly tie: readonly string[];
  readonly seed: readonly string[];
  readonly max_tokens: readonly number[];
  readonly tokens: readonly (number | null)[];
  readonly ended: readonly (string | null)[];
  readonly duplicate_of: readonly (number | null)[];
  readonly finish: readonly (string | null)[];
  readonly text: readonly (string | null)[];
}

export interface BeamCell {
  readonly rank: number;
  readonly candidate: number;
  readonly is_carried: boolean;
  readonly finish: string | null;
}

export interface GridColumn {
  readonly step: number;
  readonly beam: readonly BeamCell[];
  readonly lost: readonly number[];
}

export interface FinalAnswer {
  readonly candidate: number;
  readonly is_winner: boolean;
  readonly text: string | null;
  readonly correct: boolean | null;
  readonly method: string | null;
  readonly extracted: string | null;
  readonly detail: string | null;
}

export interface NearestLoser {
  readonly candidate: number | null;
  readonly step: number;
  readonly teacher: string;
  readonly text: string;
  readonly lead: number;
  readonly repeats: boolean;
}

export interface ProblemDocument {
  readonly run: string;
  readonly position: number;
  readonly id: string;
  readonly state: string;
  readonly failure_reason: string | null;
  readonly question: string;
  readonly passage: string | null;
  readonly answer: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly base_score: number | null;
  readonly score: number | null;
  readonly correct: boolean | null;
  readonly result_tokens: number | null;
  readonly nearest: NearestLoser | null;
  readonly seconds: number | null;
  readonly teachers: readonly string[];
  readonly texts: string;
  readonly candidates: CandidateTable;
  readonly columns: readonly GridColumn[];
  readonly path: readonly number[];
  readonly path_texts: readonly (string | null)[];
  readonly answers: readonly FinalAnswer[];
  readonly previous: number | null;
  readonly next: number | null;
  readonly is_whole: boolean;
}

export interface StepTexts {
  readonly step: number;
  readonly first: number;
  readonly texts: readonly (string | null)[];
}

export interface PromptMessage {
  readonly role: string;
  readonly text: string;
}

export interface PromptDocument {
  readonly candidate: number;
  readonly teacher: string;
  readonly model: string;
  readonly seed: string;
  readonly max_tokens: number;
  readonly date: string;
  readonly sampling: Readonly<Record<string, unknown>>;
  readonly teacher_messages: readonly PromptMessage[];
  readonly prover_messages: readonly PromptMessage[];
}

export interface Interval {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

export interface ComparedRun {
  readonly run: RunSummary;
  readonly accuracy: Interval | null;
  readonly score: Interval | null;
  readonly tokens: Interval | null;
  readonly accuracy_difference: Interval | null;
  readonly score_difference: Interval | null;
}

export interface ComparisonTable {
  readonly id: readonly string[];
  readonly position_a: readonly number[];
  readonly position_b: readonly number[];
  readonly score_a: readonly (number | null)[];
  readonly score_b: readonly (number | null)[];
  readonly difference: readonly (number | null)[];
  readonly correct_a: readonly (number | null)[];
  readonly correct_b: readonly (number | null)[];
  readonly steps_a: readonly (number | null)[];
  readonly steps_b: readonly (number | null)[];
  readonly tokens_a: readonly number[];
  readonly tokens_b: readonly number[];
  readonly question: readonly string[];
}

export interface ComparisonDocument {
  readonly a: ComparedRun;
  readonly b: ComparedRun;
  readonly shared: number;
  readonly method: string;
  readonly outcomes: Readonly<Record<string, number>>;
  readonly other_content: number;
  readonly matching: number;
  readonly offset: number;
  readonly rows: ComparisonTable;
}
