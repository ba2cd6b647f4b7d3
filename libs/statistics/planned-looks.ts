import { excessScore, type Share } from "./proportions.ts";

/**
 * A guard on a share looks at it while the arms grow from `from` to `until` (requests per arm of two arms alike), at most `looks`
 * times; a look at more than that says nothing. Two looks in a row beyond `critical` are a breach.
 */
interface Window {
  readonly from: number;
  readonly until: number;
  readonly looks: number;
  readonly critical: number;
}

/** Where the first window begins, and how much later each other one does: where the one before ends. */
const FIRST_FROM = 300;
const GROWTH = 4;

/**
 * The first window: its looks, 25 requests apart, end at 600, where a guard must have found a rise from 1 % to 5 %. A confidence sequence, valid at every moment for ever, finds
 * it in three cases of four; a single test at 600 requests, valid only there, in 98 of a hundred. Looks planned ahead cost almost
 * nothing against the single test: with this critical value, two in a row of 13 pass it by chance, the arm being worse by exactly the
 * margin, with a probability of at most {@link FIRST_WINDOW_ALPHA} (found by simulation for shares from 0.1 % to 10 %, arms alike or
 * nine to one; `planned-looks.test.ts` repeats it).
 */
const FIRST: Window = { from: FIRST_FROM, until: FIRST_FROM * GROWTH, looks: 13, critical: 2.1 };
export const FIRST_WINDOW_ALPHA = 0.044;

/**
 * Later windows share what is left, half of it each time: two looks in a row of seven include the second, fourth or sixth, so three
 * times the normal tail beyond the critical value bounds each.
 */
const LATER_LOOKS = 7;
const LATER_CRITICAL: readonly number[] = [3.4, 3.59, 3.77, 3.94, 4.1];
export const LATER_WINDOWS_ALPHA = 0.002;

/** Where a guard on a share stands. Plain JSON; start with {@link noLooks}. */
export interface Looks {
  readonly window: number;
  readonly taken: number;
  /** Whether the last look was beyond the critical value. */
  readonly beyond: boolean;
}

/** Before the first look. */
export function noLooks(): Looks {
  return { window: 0, taken: 0, beyond: false };
}

/** A look's outcome. */
export interface Look {
  readonly looks: Looks;
  /** Two in a row: the share exceeds the control's by more than the margin. */
  readonly breach: boolean;
}

/** Takes the look that is due, if one is. */
export function takeLook(before: Looks, control: Share, treatment: Share, margin: number): Look {
  const size = sizeOf(control.count, treatment.count);
  let { window, taken, beyond } = before;
  while (window < windowCount() && (size > windowAt(window).until || taken >= windowAt(window).looks)) {
    if (size <= windowAt(window).until) return { looks: before, breach: false };
    window++;
    taken = 0;
    beyond = false;
  }
  if (window >= windowCount() || size < windowAt(window).from) return { looks: { window, taken, beyond: false }, breach: false };
  const passes = excessScore(control, treatment, margin) > windowAt(window).critical;
  return { looks: { window, taken: taken + 1, beyond: passes }, breach: passes && beyond };
}

/** Requests per arm of two arms alike that would tell as much. */
function sizeOf(control: number, treatment: number): number {
  return control + treatment === 0 ? 0 : (2 * control * treatment) / (control + treatment);
}

function windowCount(): number {
  return 1 + LATER_CRITICAL.length;
}

function windowAt(index: number): Window {
  if (index === 0) return FIRST;
  const from = FIRST_FROM * GROWTH ** index;
  return { from, until: from * GROWTH, looks: LATER_LOOKS, critical: LATER_CRITICAL[index - 1]! };
}
